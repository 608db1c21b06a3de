#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Remakes the three locks from pyproject.toml, newest versions first, each line with its hashes and none with an address.
set -eu
cd "$(dirname "$0")/.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m venv "$scratch/venv"
"$scratch/venv/bin/pip" install -q uv
lock() {
    out=$1
    shift
    echo "lock: $out"
    "$scratch/venv/bin/uv" pip compile --quiet --universal --generate-hashes --upgrade --python-version 3.11 \
        --no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' -o "$scratch/$out" "$@"
    cp "$scratch/$out" "$out"
}
lock requirements.txt pyproject.toml
lock requirements-dev.txt --constraint requirements.txt --group pyproject.toml:dev
lock requirements-lab.txt --constraint requirements.txt --group pyproject.toml:lab
if grep -n '://' requirements.txt requirements-dev.txt requirements-lab.txt; then
    echo "lock: an address got into a lock (lines above); remove its source from the client's settings and run again" >&2
    exit 1
fi
