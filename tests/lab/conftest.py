# SPDX-License-Identifier: GPL-2.0-or-later
"""Fresh worlds for a test: a second's tenth to build, nothing shared."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab.plan import one_lan
from tests.lab.world import World


@pytest.fixture
def lan() -> Iterator[World]:
    with World.build(one_lan()) as world:
        yield world


@pytest.fixture
def sites() -> Iterator[World]:
    with World.build() as world:
        yield world
