#!/usr/bin/env bash
# The C++ files of the project, one a line: tracked and new ones, nothing ignored.
cd "$(dirname "$0")/.."
git ls-files -co --exclude-standard '*.h' '*.cpp' '*.inl' | while read -r file; do [ ! -f "$file" ] || echo "$file"; done
