# SPDX-License-Identifier: GPL-2.0-or-later
"""Decisions only: no clock, socket, file, thread, log or randomness in here."""
