# SPDX-License-Identifier: GPL-2.0-or-later
"""A cold standby on appliances with systemd, beside keepalived."""
