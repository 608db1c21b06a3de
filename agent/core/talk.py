# SPDX-License-Identifier: GPL-2.0-or-later
"""What keeper and agent of one node say to each other, as JSON datagrams."""

import json
from dataclasses import asdict
from typing import Any

from agent.core.keeping import WordGiven
from agent.core.model import Decision, GroupDeed, KeeperSaid, PeerDeed, Word


def dump_words(given: WordGiven) -> bytes:
    """The agent's beat."""
    words = {name: asdict(word) for name, word in given.words.items()}
    return json.dumps({"at_ms": given.at_ms, "words": words}).encode()


def load_words(data: bytes) -> WordGiven:
    """Raises ValueError, KeyError, TypeError where it is not what `dump_words` makes."""
    value: dict[str, Any] = json.loads(data)
    words = {name: Word(**word) for name, word in value["words"].items()}
    return WordGiven(words, int(value["at_ms"]))


def dump_said(said: KeeperSaid) -> bytes:
    """The keeper's report."""
    return json.dumps(asdict(said)).encode()


def load_said(data: bytes) -> KeeperSaid:
    """Raises ValueError, KeyError, TypeError where it is not what `dump_said` makes."""
    value: dict[str, Any] = json.loads(data)
    return KeeperSaid(
        {name: GroupDeed(**deed) for name, deed in value["groups"].items()},
        {name: _peer(peer) for name, peer in value["peers"].items()},
        value["links"],
        value["counters"],
        tuple(_decision(decision) for decision in value["decisions"]),
    )


def _peer(value: dict[str, Any]) -> PeerDeed:
    groups = {name: (pair[0], pair[1]) for name, pair in value["groups"].items()}
    lost = tuple(value["lost_paths"])
    return PeerDeed(value["state"], value["boot"], groups, value["wanted"], lost)


def _decision(value: dict[str, Any]) -> Decision:
    rejected = tuple((pair[0], pair[1]) for pair in value.pop("rejected"))
    return Decision(rejected=rejected, **value)
