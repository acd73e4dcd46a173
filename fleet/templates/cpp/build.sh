#!/bin/sh
# Builds {{name}}.wasm. The first time takes a minute: the C++ library is compiled.
set -eu
cd "$(dirname "$0")"
exec ${ZIG:-python3 -m ziglang} c++ -target wasm32-wasi -mexec-model=reactor -std=c++20 -Os -s -fno-exceptions -fno-rtti -Wall -Wextra \
    -Wl,-z,stack-size=65536 -o {{name}}.wasm {{name}}.cpp
