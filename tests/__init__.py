# SPDX-License-Identifier: GPL-2.0-or-later
"""Proofs: core, drivers, simulator, laboratory, benches and house rules."""
