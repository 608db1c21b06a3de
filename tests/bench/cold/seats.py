# SPDX-License-Identifier: GPL-2.0-or-later
"""What is protected: one ledger for each candidate, with a unit, an address and a referee."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.lab.appliances import Appliance
from tests.lab.patient_cold import Nature, arguments
from tests.lab.world import ROOT

NODES = ("lon1", "lon2")
WITNESS = "wit1"
START_UP_S = 1.95  # of the ledger itself; Python and systemd take the rest of S
S_MS = 2000.0
TREE = "/opt/lab"  # where an appliance finds the ledger's code
NOTEBOOKS = "/opt/notebooks"
UNIT = """[Unit]
Description=Ledger of {seat}

[Service]
Type=notify
NotifyAccess=main
Environment=PYTHONPATH={tree} PYTHONDONTWRITEBYTECODE=1
ExecStart=/usr/bin/python3 -m tests.lab.patient_cold serve {arguments}
StateDirectory=ledger-{seat}
TimeoutStartSec=20
TimeoutStopSec=5
{more}
"""


@dataclass(frozen=True)
class Seat:
    """The ledger of one candidate. more: lines of its unit's [Service]."""

    name: str
    address: str
    vrid: int
    port: int
    exclusive: str = ""  # Standpipe's word
    more: str = ""

    @property
    def unit(self) -> str:
        return f"ledger-{self.name}.service"

    @property
    def folder(self) -> str:
        return f"/var/lib/ledger-{self.name}"

    @property
    def status(self) -> str:
        return f"{self.folder}/status"

    @property
    def refusal(self) -> str:
        """While this file is there, the ledger does not start."""
        return f"{self.folder}/own/refuse"

    def unit_text(self, node: str, ballast_bytes: int) -> str:
        nature = Nature(
            Path(self.status),
            Path(NOTEBOOKS, self.name),
            self.port,
            START_UP_S,
            ballast_bytes=ballast_bytes,
        )
        told = " ".join(arguments(node, f"{self.folder}/own", nature))
        return UNIT.format(seat=self.name, tree=TREE, arguments=told, more=self.more)


class Stack(Protocol):
    """Who protects some seats on the appliances."""

    name: str
    seats: Sequence[Seat]
    managers: Sequence[str]  # units whose main processes are killed and frozen

    def configure(self, appliances: dict[str, Appliance]) -> None:
        """Files and units, before the first boot."""
        ...

    def stands_by(self, seat: Seat, appliance: Appliance) -> bool:
        """The node, which does not serve, would take over."""
        ...

    def move(self, seat: Seat, held: Appliance, to: Appliance) -> None:
        """Ask for a planned move; it may go on after this returns."""
        ...

    def moved(self, seat: Seat, held: Appliance) -> None:
        """After a planned move: as it was before, but for who serves."""
        ...

    def clear(self, seat: Seat, appliance: Appliance) -> None:
        """An operator has mended the ledger on that node."""
        ...

    def revive(self, appliance: Appliance) -> None:
        """What an operator does where a manager died and nobody started it again."""
        ...

    def alarmed(self, seat: Seat, appliance: Appliance) -> bool:
        """It complains about this seat there."""
        ...


def binds(notebooks: Path) -> list[str]:
    """What an appliance sees of this machine: the ledger's code, and the referee's notebooks."""
    return [f"--bind-ro={ROOT}/tests:{TREE}/tests", f"--bind={notebooks}:{NOTEBOOKS}"]
