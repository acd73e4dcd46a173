#!/bin/sh
# Builds {{name}}.wasm, with Zig's checks, so that a mistake is a fault that says what it was. ReleaseSmall makes it smaller.
set -eu
cd "$(dirname "$0")"
exec ${ZIG:-python3 -m ziglang} build-exe -target wasm32-freestanding -O ReleaseSafe -fstrip -fno-entry -rdynamic --stack 65536 \
    --dep sanderling -Mroot={{name}}.zig -Msanderling=sanderling.zig -femit-bin={{name}}.wasm
