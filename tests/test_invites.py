# SPDX-License-Identifier: GPL-2.0-or-later
"""One-time tokens."""

import os
import stat
import threading
from pathlib import Path

import pytest

from agent import invites
from agent.ports import Refused

PRINT = bytes(range(32))
NOW_S = 1_000_000.0


def kept(state: Path, node: str = "", life_s: float = 3600) -> bytes:
    _, secret = invites.new_token(PRINT)
    invites.keep(state, secret, node, NOW_S, life_s)
    return secret


def test_a_token_holds_the_authoritys_fingerprint_and_a_secret() -> None:
    token, secret = invites.new_token(PRINT)
    assert token.startswith("spj1-")
    assert len(token) == 5 + 56
    assert invites.read_token(token) == (PRINT[:16], secret)
    assert invites.new_token(PRINT)[1] != secret


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda token: token[:-1], "is not whole"),
        (lambda token: token + "aaaaaaaa", "is not whole"),
        (lambda token: token[:20] + ("a" if token[20] != "a" else "b") + token[21:], "mistyped"),
        (lambda token: token[:20] + "1" + token[21:], "is not whole"),
        (lambda token: "xyz" + token, "does not begin with spj1-"),
        (lambda token: "", "does not begin with spj1-"),
        (lambda token: "spj1-", "is not whole"),
    ],
)
def test_a_mistyped_token_is_known_before_anybody_is_asked(damage, why: str) -> None:  # type: ignore[no-untyped-def]
    token, _ = invites.new_token(PRINT)
    with pytest.raises(Refused, match=why):
        invites.read_token(damage(token))


def test_of_the_secret_only_a_digest_is_kept_and_closed_to_others(tmp_path: Path) -> None:
    secret = kept(tmp_path)
    folder = tmp_path / "invites"
    (file,) = folder.iterdir()
    assert secret.hex() not in file.name + file.read_text()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_it_belongs_to_whom_the_state_folder_belongs(tmp_path: Path) -> None:
    os.chown(tmp_path, 1234, 1234)
    kept(tmp_path)
    (file,) = (tmp_path / "invites").iterdir()
    assert {(path.stat().st_uid, path.stat().st_gid) for path in (file, file.parent)} == {
        (1234, 1234)
    }


def test_it_is_found_by_its_secret_alone_and_used_once(tmp_path: Path) -> None:
    kept(tmp_path)
    secret = kept(tmp_path, "lon2")
    found = invites.find(tmp_path, secret, NOW_S)
    assert found is not None
    assert found.node == "lon2"
    assert invites.find(tmp_path, b"x" * 16, NOW_S) is None
    assert invites.find(tmp_path, b"", NOW_S) is None
    assert invites.spend(tmp_path, found)
    assert not invites.spend(tmp_path, found)
    assert invites.find(tmp_path, secret, NOW_S) is None


def test_of_many_who_use_it_at_once_one_hears_yes(tmp_path: Path) -> None:
    found = invites.find(tmp_path, kept(tmp_path), NOW_S)
    assert found is not None
    gate = threading.Barrier(8)
    heard: list[bool] = []

    def use() -> None:
        gate.wait()
        heard.append(invites.spend(tmp_path, found))

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(heard) == [False] * 7 + [True]


@pytest.mark.parametrize(
    ("later_s", "good"), [(-3600, False), (-30, True), (0, True), (3599, True), (3600, False)]
)
def test_it_ends_after_its_time_also_when_the_clock_is_set_back(
    tmp_path: Path, later_s: float, good: bool
) -> None:
    secret = kept(tmp_path)
    assert (invites.find(tmp_path, secret, NOW_S + later_s) is not None) is good
    assert list((tmp_path / "invites").iterdir()) == [] or good


@pytest.mark.parametrize("rubbish", [b"", b"{", b"[]", b"{}", b'{"made_s": 1}', b"\xff"])
def test_rubbish_among_them_is_no_invitation(tmp_path: Path, rubbish: bytes) -> None:
    secret = kept(tmp_path)
    (tmp_path / "invites" / ("0" * 64)).write_bytes(rubbish)
    assert invites.find(tmp_path, secret, NOW_S) is not None


def test_who_guesses_is_not_listened_to_for_a_while_and_nobody_else_suffers() -> None:
    guesses = invites.Guesses()
    for at_ms in range(invites.GUESSES):
        assert not guesses.too_many("10.0.0.1", at_ms)
        guesses.note("10.0.0.1", at_ms)
    assert guesses.too_many("10.0.0.1", 100)
    assert not guesses.too_many("10.0.0.2", 100)
    assert not guesses.too_many("10.0.0.1", invites.GUESSES_IN_MS + 10)


def test_of_very_many_guessers_the_latest_are_remembered() -> None:
    guesses = invites.Guesses()
    for number in range(invites.MOST_GUESSERS + 100):
        for _ in range(invites.GUESSES):
            guesses.note(f"guesser{number}", 0)
    assert guesses.too_many(f"guesser{invites.MOST_GUESSERS + 99}", 1)
    assert not guesses.too_many("guesser0", 1)


def test_a_state_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="run as root, or give --state-dir"):
        kept(tmp_path / "none")
