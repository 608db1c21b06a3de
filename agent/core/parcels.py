# SPDX-License-Identifier: GPL-2.0-or-later
"""How files are put together into parcels of some MiB, so that a change of one costs little.

A parcel is known by what is in it, so the same files make the same parcels. Small files that follow
one another by path share one; where it ends depends on paths alone, or on its being full, so a file
that changes, comes or goes leaves the parcels after the next such end as they were.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

PARCEL_BYTES = 4 << 20
ENDS_ONE_IN = 32  # of all paths


@dataclass(frozen=True, slots=True)
class Piece:
    """`length` bytes from `offset` of the file with this digest."""

    sha256: str
    offset: int
    length: int


Parcel = tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class File:
    """What there is to pack."""

    path: str
    sha256: str
    size: int


def pack(files: Iterable[File]) -> list[Parcel]:
    """Every byte of every different file, once. Empty files need no parcel."""
    parcels: list[Parcel] = []
    open_parcel: list[Piece] = []
    held = 0
    known: set[str] = set()
    for file in sorted(files, key=lambda file: file.path):
        if file.sha256 in known or not file.size:
            continue
        known.add(file.sha256)
        if file.size > PARCEL_BYTES:
            parcels += _slices(file)
            continue
        if held + file.size > PARCEL_BYTES:
            parcels.append(tuple(open_parcel))
            open_parcel, held = [], 0
        open_parcel.append(Piece(file.sha256, 0, file.size))
        held += file.size
        if _ends(file.path):
            parcels.append(tuple(open_parcel))
            open_parcel, held = [], 0
    if open_parcel:
        parcels.append(tuple(open_parcel))
    return parcels


def parcel_text(parcel: Parcel) -> str:
    """What it is known by."""
    return " ".join(f"{piece.sha256}:{piece.offset}+{piece.length}" for piece in parcel)


def parcel_bytes(parcel: Parcel) -> int:
    """How much is in it."""
    return sum(piece.length for piece in parcel)


def _slices(file: File) -> list[Parcel]:
    return [
        (Piece(file.sha256, offset, min(PARCEL_BYTES, file.size - offset)),)
        for offset in range(0, file.size, PARCEL_BYTES)
    ]


def _ends(path: str) -> bool:
    return hashlib.sha256(path.encode("utf-8", "surrogateescape")).digest()[0] % ENDS_ONE_IN == 0
