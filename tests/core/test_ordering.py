# SPDX-License-Identifier: GPL-2.0-or-later
"""What stands on what among the services of a group."""

from hypothesis import given
from hypothesis import strategies as st

from agent.core.ordering import dependants, forerunners
from agent.core.settings import ServiceSettings


def services(**after):
    return [ServiceSettings(name, after=tuple(below)) for name, below in after.items()]


PHONES = services(proxy=["media"], db=[], media=["db"], web=[])


def test_what_stands_on_a_service_and_what_it_stands_on_goes_all_the_way():
    assert forerunners(PHONES, "proxy") == {"db", "media"}
    assert dependants(PHONES, "db") == {"media", "proxy"}
    assert forerunners(PHONES, "web") == dependants(PHONES, "web") == set()


@given(st.lists(st.sets(st.integers(0, 7)), max_size=8))
def test_the_two_are_each_others_reverse(below):
    found = services(**{f"s{i}": [f"s{j}" for j in js if j < i] for i, js in enumerate(below)})
    names = [service.name for service in found]
    for one in names:
        assert one not in forerunners(found, one)
        for other in names:
            assert (one in forerunners(found, other)) is (other in dependants(found, one))
