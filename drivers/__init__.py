# SPDX-License-Identifier: GPL-2.0-or-later
"""One file a device or protocol; everything here touches the world."""
