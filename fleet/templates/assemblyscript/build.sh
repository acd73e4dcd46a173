#!/bin/sh
# Builds {{name}}.wasm. What is thrown is said in the log; the initialisation is exported, so that the host can end it.
set -eu
cd "$(dirname "$0")"
exec ${ASC:-npx asc} {{name}}.ts -O3 --exportStart _initialize --use abort=sanderling/index/abort --outFile {{name}}.wasm
