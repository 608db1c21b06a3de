# SPDX-License-Identifier: GPL-2.0-or-later
"""The deterministic simulator over the real core."""
