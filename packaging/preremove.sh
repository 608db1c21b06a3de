#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# On removal, not on upgrade: stop, so that the peer takes the addresses over; and take away what postinstall compiled.
set -e
if [ "$1" = remove ] || [ "$1" = 0 ]; then
    if [ -d /run/systemd/system ]; then
        systemctl disable --now standpipe-agent.service standpipe-keeper.service
    fi
fi
# An .rpm upgrade (1) comes here after the new version has compiled.
[ "$1" = 1 ] || find /usr/lib/standpipe/site -name __pycache__ -prune -exec rm -rf {} +
