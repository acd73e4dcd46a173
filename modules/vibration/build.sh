#!/bin/sh
# Builds vibration.wasm with Debian's clang-14, lld-14, wasi-libc and libclang-rt-14-dev-wasm32.
# usage: build.sh <output.wasm>
set -eu
here=$(cd "$(dirname "$0")" && pwd)
exec "${CLANG:-clang-14}" --target=wasm32-wasi -mexec-model=reactor -std=c11 -O3 -Wall -Wextra -Werror \
    -I "$here/../../guest-abi/include" -Wl,-z,stack-size=65536 -Wl,--strip-all -o "$1" "$here/vibration.c"
