# SPDX-License-Identifier: GPL-2.0-or-later
"""What keeper and agent of one node say to each other, as JSON datagrams."""

import json
from dataclasses import Field, replace
from typing import Any, ClassVar, Protocol, TypeVar

from agent.core.keeping import WordGiven
from agent.core.model import Decision, GroupDeed, KeeperSaid, PeerDeed, Word


class Form(Protocol):
    """Any dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


Made = TypeVar("Made", bound=Form)


def _parts(form: Form) -> dict[str, Any]:
    return {name: getattr(form, name) for name in form.__dataclass_fields__}


ENCODE = json.JSONEncoder(default=_parts).encode
"""A fifth of what dataclasses.asdict costs: it would copy everything first."""


def dump_words(given: WordGiven) -> bytes:
    """The agent's beat."""
    return ENCODE({"at_ms": given.at_ms, "words": given.words}).encode()


def load_words(data: bytes) -> WordGiven:
    """Raises ValueError, KeyError, TypeError where it is not what `dump_words` makes."""
    value: dict[str, Any] = json.loads(data)
    words = {name: _word(word) for name, word in value["words"].items()}
    return WordGiven(words, int(value["at_ms"]))


def dump_said(said: KeeperSaid) -> bytes:
    """The keeper's report."""
    return ENCODE(said).encode()


def load_said(data: bytes) -> KeeperSaid:
    """Raises ValueError, KeyError, TypeError where it is not what `dump_said` makes."""
    value: dict[str, Any] = json.loads(data)
    return KeeperSaid(
        {name: _made(GroupDeed, deed) for name, deed in value["groups"].items()},
        {name: _peer(peer) for name, peer in value["peers"].items()},
        value["links"],
        value["counters"],
        tuple(_decision(decision) for decision in value["decisions"]),
        dict(value.get("senses", {})),
    )


def _made(form: type[Made], value: dict[str, Any]) -> Made:
    """Of the fields that both versions know: one of the pair may be older, during an upgrade."""
    if not isinstance(value, dict):
        raise TypeError(f"{form.__name__} is made of an object, not of {value!r}")
    known = form.__dataclass_fields__
    return form(**{name: part for name, part in value.items() if name in known})


def _word(value: dict[str, Any]) -> Word:
    made = _made(Word, value)
    return replace(made, fenced=tuple(str(node) for node in made.fenced))


def _peer(value: dict[str, Any]) -> PeerDeed:
    groups = {name: (pair[0], pair[1]) for name, pair in value.get("groups", {}).items()}
    lists = {name: tuple(value.get(name, ())) for name in ("lost_paths", "able")}
    return _made(PeerDeed, value | {"groups": groups, **lists})


def _decision(value: dict[str, Any]) -> Decision:
    rejected = tuple((pair[0], pair[1]) for pair in value.get("rejected", ()))
    return _made(Decision, value | {"rejected": rejected})
