# SPDX-License-Identifier: GPL-2.0-or-later
"""Measurements side by side with the peers; each module prints a table."""
