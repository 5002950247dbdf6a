# The commands of the house. Each brings what it needs: `make train` and `make test` work in a fresh clone on a
# machine with make, git and python3. Everything made lies in build/ and .venv/.
SHELL := /bin/bash
.DELETE_ON_ERROR:
.PHONY: train test check format tidy bench bench-triton kernels report docs sanitize fuzz setup configure build stage python benchmarks clean help

PATH := $(CURDIR)/.venv/bin:$(PATH)
export PATH
PYTHON := .venv/bin/python
JOBS ?= $(shell nproc)
export CMAKE_BUILD_PARALLEL_LEVEL := $(JOBS)
SANITIZERS ?= asan ubsan tsan
RUNS ?= 100000
STAGE := $(CURDIR)/build/stage

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 12

train: configure  ## build and run examples/micro_gpt
	@cmake --build --preset release --target micro_gpt
	build/examples/micro_gpt

test: build stage python  ## everything: C++ tests, a program that uses the library, Python tests, GPU kernels
	ctest --preset release -j $(JOBS) --progress
	cmake -S tests/consumer -B build/consumer -G Ninja -DCMAKE_BUILD_TYPE=Release \
	  -DCMAKE_PREFIX_PATH=$(STAGE) $(QUIET)
	cmake --build build/consumer
	build/consumer/consumer
	$(PYTHON) -m pytest
	@tools/setup.sh triton
	$(PYTHON) -m pytest tests/triton

check: setup-check  ## format, lint, layers, sizes, names, stale paths in the documentation
	@tools/cpp_files.sh | xargs -r clang-format --dry-run -Werror
	@ruff check .
	@ruff format --check .
	@python3 tools/check_layers.py
	@python3 tools/check_sizes.py
	@python3 tools/check_names.py
	@python3 tools/check_docs.py

format: setup-check  ## clang-format and ruff over everything
	@tools/cpp_files.sh | xargs -r clang-format -i
	@ruff check --fix --quiet . ; ruff format --quiet .

tidy: build setup-check  ## clang-tidy (slow)
	@git ls-files -co --exclude-standard 'lightgrad/*.cpp' | xargs -P $(JOBS) -n 1 clang-tidy -p build --quiet

bench: benchmarks  ## training steps beside PyTorch, which needs to be in .venv (make report: everything)
	$(PYTHON) benchmarks/run.py

bench-triton: build python  ## the fused MLP: NumPy, LightGrad, and where there is a GPU Triton beside PyTorch
	@tools/setup.sh report
	$(PYTHON) benchmarks/fused_mlp.py

kernels: build  ## compile the GPU kernels for every architecture: build/kernels, for LIGHTGRAD_KERNELS or a wheel
	@tools/setup.sh triton
	$(PYTHON) tools/build_kernels.py build/kernels --generated build/triton/pointwise.py

# REPORT_FROM=docs/report.json writes the pages again from numbers that are there; QUICK=1 takes about 3 minutes.
report:  ## measures everything beside its peers: docs/report.json, docs/report.pdf, README's section
	@tools/setup.sh report
	@[ -n "$(REPORT_FROM)" ] || $(MAKE) --no-print-directory benchmarks
	$(PYTHON) benchmarks/report.py $(if $(QUICK),--quick) $(if $(REPORT_FROM),--from $(REPORT_FROM))

docs: build python  ## pictures and generated pages
	@tools/setup.sh docs
	@set -e; for script in docs/*.py; do [ ! -e "$$script" ] || $(PYTHON) "$$script"; done

sanitize: setup  ## the C++ tests under each of $(SANITIZERS)
	@set -e; for preset in $(SANITIZERS); do tools/sanitize.sh $$preset; done

fuzz: setup  ## $(RUNS) inputs made to break them for each reader of files, under ASan and UBSan (needs clang)
	@tools/fuzz.sh $(RUNS)

# The steps. -----------------------------------------------------------------------------------------------------------
QUIET := --log-level=NOTICE

setup:
	@tools/setup.sh

setup-check:
	@tools/setup.sh check

configure: setup
	@cmake --preset release $(QUIET)

build: configure
	@cmake --build --preset release

stage: build
	@cmake --install build --prefix $(STAGE) --component cpp >/dev/null

# The extension is built on the staged library, so the engine is compiled once.
python: stage
	CMAKE_ARGS="-DLIGHTGRAD_USE_INSTALLED=ON -DCMAKE_PREFIX_PATH=$(STAGE)" \
	  $(PYTHON) -m pip install --quiet --no-build-isolation --no-deps --force-reinstall .

benchmarks: build python
	@cmake --preset release -DLIGHTGRAD_BUILD_BENCHMARKS=ON $(QUIET)
	@cmake --build --preset release

clean:  ## remove build/ (.venv stays)
	rm -rf build
