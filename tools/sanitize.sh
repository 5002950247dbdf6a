#!/usr/bin/env bash
# Builds one sanitizer preset and runs the whole C++ suite in it, in one process. Usage: tools/sanitize.sh <preset>
set -euo pipefail
cd "$(dirname "$0")/.."
preset=$1
cmake --preset "$preset" --log-level=NOTICE
cmake --build --preset "$preset"
export ASAN_OPTIONS=detect_leaks=1:strict_string_checks=1 UBSAN_OPTIONS=print_stacktrace=1
# A forked child may start threads of its own.
export TSAN_OPTIONS=die_after_fork=0
run=()
# ThreadSanitizer of older compilers cannot live with much address randomisation; setarch -R turns it off for this run.
if [ "$preset" = tsan ] && setarch -R true 2>/dev/null; then run=(setarch -R); fi
"${run[@]}" "build/$preset/tests/lightgrad_tests" --gtest_brief=1
