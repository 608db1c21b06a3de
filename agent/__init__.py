# SPDX-License-Identifier: GPL-2.0-or-later
"""Standpipe: keeps hosted services on tap when a server, a trunk or a site is lost."""
