#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Compiles for this machine's Python, and restarts what runs: an upgrade moves no address. Nothing is started that did not run.
set -e
/usr/bin/python3 -m compileall -q /usr/lib/standpipe/site || true
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload
    systemctl try-restart standpipe-agent.service
    # not a restart, which would hand the addresses over: it ends, is started again and adopts them
    systemctl kill -s USR1 standpipe-keeper.service 2>/dev/null || true
fi
