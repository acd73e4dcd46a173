#!/bin/sh
# Builds csv-filter.wasm with Debian's clang-14, lld-14, wasi-libc and libclang-rt-14-dev-wasm32: a WASI program, without our header.
# usage: build.sh <output.wasm>
set -eu
here=$(cd "$(dirname "$0")" && pwd)
exec "${CLANG:-clang-14}" --target=wasm32-wasi -std=c11 -O2 -Wall -Wextra -Werror -D_POSIX_C_SOURCE=200809L \
    -Wl,-z,stack-size=32768 -Wl,--strip-all -o "$1" "$here/csv_filter.c"
