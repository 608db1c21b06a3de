#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Starts one node of a measured pair: NODE CONFIG WORKDIR ADVERT_S PREEMPT VIP,VIP...
# Run from the project's root; `make venv` first.
set -eu
node=$1 config=$2 workdir=$3 advert_s=$4 preempt=$5 vips=$6
failback=manual
[ "$preempt" = true ] && failback=1s
advert_ms=$(awk "BEGIN { printf \"%d\", $advert_s * 1000 }")
list=$(printf '"%s/32"' "$vips" | sed 's|,|/32","|g')
sed -e "s|@FAILBACK@|$failback|" -e "s|@ADVERT@|${advert_ms}ms|" -e "s|@VIPS@|$list|" \
    "$config" > "$workdir/standpipe.toml"
# the same key on both nodes, as `standpipe init` and a copy would leave it
umask 077
echo 00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff > "$workdir/cluster.key"
exec .venv/bin/standpipe run --config "$workdir/standpipe.toml" --node "$node" \
    --run-dir "$workdir/run" --state-dir "$workdir/state"
