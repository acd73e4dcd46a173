#!/bin/sh
# Builds the conformance guest of a binding. CLANG, ASC, ZIG and GO name the compilers, by default those of the PATH.
# usage: build.sh <c|cpp|assemblyscript|zig|go> <output.wasm>
set -eu
here=$(cd "$(dirname "$0")" && pwd)
guest_abi=$(dirname "$here")
case $1 in
c) exec ${CLANG:-clang-14} --target=wasm32-wasi -mexec-model=reactor -std=c11 -O2 -Wall -Wextra -Werror -I "$guest_abi/include" \
    -Wl,-z,stack-size=65536 -Wl,--strip-all -o "$2" "$here/conformance.c" ;;
cpp) exec ${ZIG:-python3 -m ziglang} c++ -target wasm32-wasi -mexec-model=reactor -std=c++20 -Os -s -fno-exceptions -fno-rtti -Wall -Wextra \
    -Werror -I "$guest_abi/include" -Wl,-z,stack-size=65536 -o "$2" "$here/conformance.cpp" ;;
assemblyscript) exec ${ASC:-asc} "$here/conformance.ts" --baseDir "$guest_abi" -O3 --exportStart _initialize \
    --use abort=assemblyscript/index/abort --outFile "$2" ;;
zig) exec ${ZIG:-python3 -m ziglang} build-exe -target wasm32-freestanding -O ReleaseSmall -fno-entry -rdynamic --stack 65536 \
    --dep sanderling "-Mroot=$here/conformance.zig" "-Msanderling=$guest_abi/zig/sanderling.zig" "-femit-bin=$2" ;;
go) cd "$here/go" && GOOS=wasip1 GOARCH=wasm exec ${GO:-go} build -buildmode=c-shared -ldflags="-s -w" -o "$2" . ;;
*) echo "unknown language $1" >&2 && exit 2 ;;
esac
