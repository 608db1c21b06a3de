# SPDX-License-Identifier: GPL-2.0-or-later
"""Recorded walks and packets, and real servers on loopback."""
