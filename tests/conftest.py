# SPDX-License-Identifier: GPL-2.0-or-later
"""What every test shares: properties meet the same examples each time, at any speed."""

from hypothesis import settings

settings.register_profile("house", deadline=None, derandomize=True, database=None)
settings.load_profile("house")
