# SPDX-License-Identifier: GPL-2.0-or-later
"""Every key of a TOML file is found on the line where it stands."""

import tomllib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from agent.config_lines import At, LineIndex


def leaves(tree: Any, at: At = ()) -> dict[At, Any]:
    """Every value that is neither a table nor a list."""
    if isinstance(tree, dict):
        parts: list[tuple[str | int, Any]] = list(tree.items())
    elif isinstance(tree, list):
        parts = list(enumerate(tree))
    else:
        return {at: tree}
    found: dict[At, Any] = {}
    for step, value in parts:
        found |= leaves(value, (*at, step))
    return found


def check(text: str) -> None:
    """The values of `text` are their own line numbers."""
    index = LineIndex(text)
    for at, value in leaves(tomllib.loads(text)).items():
        if type(value) is int:
            assert index.line(at) == value, at


def test_tables_arrays_of_tables_and_dotted_keys() -> None:
    check("""# one
[a]
x = 3
"quoted key" = 4
b.c = 5
[[a.list]]
x = 7
[a.list.sub]
x = 9
[[a.list]]
x = 11
  [ a . "list" . sub ]
  x = 13
[z]
'lit.eral' . y = 15
[a.later.deep]
x = 17
[a.later]
x = 19
""")


def test_values_over_many_lines() -> None:
    check('''x = [  # ] not the end
  2,
  3, { y = 3, z = [3, 3] },
  [
    5,
  ],
]
text = """
[not.a.table]
key = "not a key" \\"""
ends in quotes"""""
x2 = 12
raw = \'\'\'
it's # no comment
\'\'\'
day = 1979-05-27 07:32:00
x3 = 17
s = "a # b ] } , \\" = c"
t = { u = { v = 19 }, w.x = 19 }
f = [1.5, true, 'a]b', "c,d"]
x4 = 21
''')


def test_a_place_that_is_not_spelt_out_has_the_line_of_what_is_around_it() -> None:
    index = LineIndex('[a]\n\n[b.c]\nd = "x"\n')
    assert index.line(("b", "c", "missing")) == 3
    assert index.line(("b",)) == 3
    assert index.line(("nothing",)) == 1


def test_a_table_has_the_line_of_its_own_header() -> None:
    index = LineIndex("[a.b]\nx = 2\n[a]\ny = 4\n[[c]]\n[[c]]\n")
    assert (index.line(("a",)), index.line(("a", "b"))) == (3, 1)
    assert (index.line(("c",)), index.line(("c", 0)), index.line(("c", 1))) == (5, 5, 6)


def test_windows_line_ends() -> None:
    check("x = 1\r\n[a]\r\ny = 3\r\nz = [\r\n 5,\r\n]\r\n")


STATEMENTS = st.sampled_from(
    [
        "{key} = {n}",
        "{key}.{key2} = {n}",
        "\"{key}\".'{key2}' = {n}  # = 7",
        "{key} = [{n}, {n}, [{n}]]",
        "{key} = {{ {key2} = {n}, q = [{n}] }}",
        '{key} = "]}}#,"',
        "# {key} = 1",
        "",
        "[{key}]",
        "[{key}.{key2}]",
        "[[{key}]]",
        "[[{key}.{key2}]]",
        "{key} = [",
        "{n},",
        "]",
        '{key} = """',
        '"""',
    ]
)
KEYS = st.sampled_from(["a", "b", "c", "d-1", "2"])


@given(st.lists(st.tuples(STATEMENTS, KEYS, KEYS), max_size=25))
def test_whatever_tomllib_takes_is_indexed(statements: list[tuple[str, str, str]]) -> None:
    lines: list[str] = []
    for form, key, key2 in statements:
        line = form.format(key=key, key2=key2, n=len(lines) + 1)
        try:
            tomllib.loads("\n".join([*lines, line]))
        except tomllib.TOMLDecodeError:
            if form not in ("{key} = [", '{key} = """', "{n},"):
                continue
        lines.append(line)
    text = "\n".join(lines)
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    check(text)
