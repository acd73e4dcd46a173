#!/bin/sh
# Builds {{name}}.wasm.
set -eu
cd "$(dirname "$0")"
target=${CARGO_TARGET_DIR:-target}
cargo build --release --target wasm32-unknown-unknown --target-dir "$target"
cp "$target/wasm32-unknown-unknown/release/{{crate}}.wasm" {{name}}.wasm
