# SPDX-License-Identifier: GPL-2.0-or-later
"""What callers feel when the SIP server they call through breaks or is moved, beside keepalived."""
