#!/bin/sh
# Builds motion.wasm with the C++ compiler of Zig (PyPI: ziglang), `python3 -m ziglang` or what ZIG names. It brings a C++ library for wasm,
# which Debian's clang-14 needs two more packages for.
# usage: build.sh <output.wasm>
set -eu
here=$(cd "$(dirname "$0")" && pwd)
exec ${ZIG:-python3 -m ziglang} c++ -target wasm32-wasi -mexec-model=reactor -std=c++20 -O2 -s -fno-exceptions -fno-rtti -Wall -Wextra -Werror \
    -I "$here/../../guest-abi/include" -Wl,-z,stack-size=65536 -o "$1" "$here/motion.cpp"
