#!/bin/sh
# Builds {{name}}.wasm. With Debian's clang instead (clang-14 lld-14 wasi-libc libclang-rt-14-dev-wasm32), the command is
#   clang-14 --target=wasm32-wasi -mexec-model=reactor -std=c11 -Os -Wl,-z,stack-size=65536 -Wl,--strip-all -o {{name}}.wasm {{name}}.c
set -eu
cd "$(dirname "$0")"
exec ${ZIG:-python3 -m ziglang} cc -target wasm32-wasi -mexec-model=reactor -std=c11 -Os -s -Wall -Wextra -Wl,-z,stack-size=65536 \
    -o {{name}}.wasm {{name}}.c
