#!/bin/sh
# Builds {{name}}.wasm.
set -eu
cd "$(dirname "$0")"
GOOS=wasip1 GOARCH=wasm exec ${GO:-go} build -buildmode=c-shared -ldflags="-s -w" -o {{name}}.wasm .
