#!/usr/bin/env bash
# Brings what building needs: packages of the system (apt, as root or by sudo) and a virtual environment in .venv.
# Usage: tools/setup.sh [check|docs|report|fuzz|triton]. Says nothing and costs nothing when everything is there.
set -euo pipefail
cd "$(dirname "$0")/.."

case "${1:-build}" in
  build) packages=(g++ ccache libhwy-dev nlohmann-json3-dev zlib1g-dev libgtest-dev libcli11-dev libbenchmark-dev
                   pkg-config python3-dev python3-venv) ;;
  check) packages=(clang-format clang-tidy python3-venv) ;;
  docs) packages=(graphviz) ;;
  report | triton) packages=() ;;
  fuzz) packages=(clang libclang-rt-dev) ;;
  *) echo "setup: unknown group '$1'" >&2; exit 2 ;;
esac

# System packages. Without apt, CMake fetches the libraries; the compiler is then up to the user.
missing=()
if command -v dpkg-query >/dev/null && command -v apt-get >/dev/null; then
  for package in "${packages[@]}"; do
    dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
  done
fi
if [ ${#missing[@]} -gt 0 ]; then
  sudo=()
  [ "$(id -u)" -eq 0 ] || sudo=(sudo)
  if [ "$(id -u)" -eq 0 ] || command -v sudo >/dev/null; then
    echo "setup: apt-get install ${missing[*]}"
    "${sudo[@]}" apt-get update -qq
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
  else
    echo "setup: these packages are missing and neither root nor sudo is at hand: ${missing[*]}" >&2
    echo "setup: going on; CMake fetches the libraries it does not find" >&2
  fi
fi

# The virtual environment. A stamp is the requirements file that it was made from.
case "${1:-build}" in docs | fuzz) exit 0 ;; esac
if [ ! -x .venv/bin/python ] || ! .venv/bin/python -c '' 2>/dev/null; then
  rm -rf .venv
  python3 -m venv .venv
fi
install() {  # FILE STAMP
  if ! cmp -s "$1" ".venv/$2"; then
    echo "setup: pip install -r $1"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -r "$1"
    cp "$1" ".venv/$2"
  fi
}
install requirements-dev.txt requirements.stamp
[ "${1:-build}" != triton ] || install requirements-triton.txt requirements-triton.stamp
[ "${1:-build}" != report ] || install requirements-report.txt requirements-report.stamp
