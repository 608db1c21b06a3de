# SPDX-License-Identifier: GPL-2.0-or-later
"""Network namespaces with real packets."""
