# SPDX-License-Identifier: GPL-2.0-or-later
"""Moving an address, beside keepalived; command and config.toml.in are for other measuring rigs."""
