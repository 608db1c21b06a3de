# SPDX-License-Identifier: GPL-2.0-or-later
"""The configuration: what is read from it, and what is said about it."""
