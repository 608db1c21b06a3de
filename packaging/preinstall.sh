#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# The user must be there before the package's folders get their group.
set -e
getent group standpipe >/dev/null || groupadd --system standpipe
getent passwd standpipe >/dev/null ||
    useradd --system --gid standpipe --home-dir /var/lib/standpipe --no-create-home --shell /usr/sbin/nologin standpipe
