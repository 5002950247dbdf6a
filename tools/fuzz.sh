#!/usr/bin/env bash
# Builds the fuzzers (preset `fuzz`) and runs each over this many inputs. What it learns lies in build/fuzz/corpus and is
# where the next run begins; an input that breaks a reader is named at the end and belongs, once the reader is mended,
# into tests/fuzz/corpus. Usage: tools/fuzz.sh <inputs> [reader...]
set -euo pipefail
cd "$(dirname "$0")/.."
tools/setup.sh fuzz
inputs=$1
shift
readers=("$@")
[ ${#readers[@]} -gt 0 ] || readers=(idx cifar10 safetensors)
cmake --preset fuzz --log-level=NOTICE
cmake --build --preset fuzz --target "${readers[@]/#/fuzz_}"
for reader in "${readers[@]}"; do
  mkdir -p "build/fuzz/corpus/$reader"
  length=4096
  [ "$reader" != cifar10 ] || length=9219  # three records
  "build/fuzz/tests/fuzz/fuzz_$reader" -runs="$inputs" -max_len="$length" -print_final_stats=1 -verbosity=0 \
    -artifact_prefix="build/fuzz/$reader-" "build/fuzz/corpus/$reader" "tests/fuzz/corpus/$reader"
done
