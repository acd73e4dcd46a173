#!/bin/sh
# Builds the module, runs it on the frames in frames/ and looks for the record that it should emit.
# SANDERLING names the tool where it is not in the PATH.
set -eu
cd "$(dirname "$0")"
./build.sh
wanted='{"channel":"{{name}}","payload":{"mean":2.5,"seq":1}}'
found=$("${SANDERLING:-sanderling}" --json run {{name}}.wasm --frames frames --csv-window 4 --grant emit:{{name}})
case $found in
*"$wanted"*) echo "{{name}}: passed" ;;
*) printf '%s\n%s\n' "{{name}}: failed, there is no record $wanted in:" "$found" && exit 1 ;;
esac
