#!/bin/sh
# Builds aggregate.wasm with Zig (PyPI: ziglang), `python3 -m ziglang` or what ZIG names.
# usage: build.sh <output.wasm>
set -eu
here=$(cd "$(dirname "$0")" && pwd)
# With its checks, so that a mistake is a fault that says what it was. Zig's own stack is 16 MiB.
exec ${ZIG:-python3 -m ziglang} build-exe -target wasm32-freestanding -O ReleaseSafe -fstrip -fno-entry -rdynamic --stack 65536 \
    --dep sanderling "-Mroot=$here/aggregate.zig" "-Msanderling=$here/../../guest-abi/zig/sanderling.zig" "-femit-bin=$1"
