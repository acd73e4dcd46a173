#!/bin/sh
# Builds deadband.wasm with AssemblyScript's compiler (npm: assemblyscript), `asc` or what ASC names.
# usage: build.sh <output.wasm>
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
# The initialisation is exported, so that the host can end it; what is thrown is said in the log.
exec ${ASC:-asc} "$root/modules/deadband/deadband.ts" --baseDir "$root" -O3 --exportStart _initialize \
    --use abort=guest-abi/assemblyscript/index/abort --outFile "$1"
