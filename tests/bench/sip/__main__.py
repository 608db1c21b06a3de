# SPDX-License-Identifier: GPL-2.0-or-later
"""What callers feel when the SIP server they call through breaks or is moved, beside keepalived.

Kamailio on two nodes behind one address, calls through it all the time; a small B2BUA for what
lives in its process. keepalived takes its turns on the same kind of world, never beside.
"""

from __future__ import annotations

import argparse
import sys

from tests.bench.common import Row, as_installed, finish, load, say
from tests.bench.sip.table import SCENARIOS, Scenario
from tests.lab.netns import LabError
from tests.lab.sip_scene import Outcome

RUNS, RATE, ADVERT_S = 3, 20.0, 1.0
STALL_MS = 100.0  # a run in which the caller's machine stood still for longer is done again ...
AGAIN = 3  # ... so often in all


def undisturbed(scenario: Scenario, peer: bool, options: argparse.Namespace) -> Outcome:
    """LabError where the machine is too busy."""
    name = f"{scenario.name}, {'keepalived' if peer else 'Standpipe'}"
    stalls = []
    for _ in range(AGAIN):
        found = scenario.once(peer, options.rate, options.advert)
        stall_ms = scenario.stall_ms(found)
        if stall_ms <= STALL_MS:
            say(f"{name}: {told(found)}")
            return found
        stalls.append(f"{stall_ms:.0f}")
        say(
            f"{name}: rejected, the caller's machine stood still for {stalls[-1]} ms: {told(found)}"
        )
    raise LabError(f"{name}: disturbed each time ({', '.join(stalls)} ms); ask less by --rate")


def told(outcome: Outcome) -> str:
    """Both halves in one line."""
    halves = []
    for felt in (outcome.fault, outcome.repair):
        tally = felt.tally
        taken = "" if felt.taken_ms is None else f"taken {felt.taken_ms:.0f} ms, "
        halves.append(
            f"{taken}lost {tally.standing_lost}+{tally.ringing_lost}+{tally.new_lost} of "
            f"{tally.standing}+{tally.ringing}+{tally.new}, slow {tally.slow}, "
            f"set-up {tally.worst_setup_ms:.0f} ms, repeats {tally.repeats}, "
            f"stale {tally.stale_invites}, gap {felt.media_gap_ms:.0f} ms, "
            f"stall {felt.stall_ms:.0f} ms"
        )
    return f"{halves[0]} | {halves[1]} | ghosts {outcome.ghosts}"


def measure(scenario: Scenario, options: argparse.Namespace) -> list[Row]:
    """In turn; where a run fails, what there is of that side is not shown."""
    runs: dict[bool, list[Outcome]] = {False: [], True: []}
    broken: set[bool] = set()
    for _ in range(options.runs):
        for peer in (False, True)[: 1 + options.peer]:
            if peer in broken:
                continue
            try:
                runs[peer].append(undisturbed(scenario, peer, options))
            except LabError as error:
                print(f"bench sip: {error}", file=sys.stderr, flush=True)
                broken.add(peer)
                runs[peer].clear()
    return [wanted.row(scenario.name, runs[False], runs[True]) for wanted in scenario.rows]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.sip", description=__doc__)
    names = [scenario.name for scenario in SCENARIOS]
    parser.add_argument("--runs", type=int, default=RUNS, metavar="N", help=f"of each ({RUNS})")
    parser.add_argument(
        "--only", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names)
    )
    parser.add_argument(
        "--rate", type=float, default=RATE, metavar="N", help=f"calls a second ({RATE:g})"
    )
    parser.add_argument(
        "--advert", type=float, default=ADVERT_S, metavar="S", help=f"keepalived's ({ADVERT_S:g})"
    )
    parser.add_argument(
        "--peer", action=argparse.BooleanOptionalAction, default=True, help="keepalived, in turn"
    )
    options = parser.parse_args()
    as_installed()
    say(f"load average {load()} at the start")
    rows = [row for it in SCENARIOS if it.name in options.only for row in measure(it, options)]
    remarks = (
        f"{options.rate:g} calls/s of 5 s; of the B2BUA 5 at most; {options.runs} runs of each",
        "lost: never answered, or cut; slow: answered more than a second late; ghosts: answered "
        "at the carrier, and nobody ever ended them",
        f"keepalived 2.2.7 as Debian ships it, OPTIONS check with interval 1, fall 2, advertising "
        f"each {options.advert:g} s; Standpipe's defaults, OPTIONS each 200 ms",
        "no B2BUA of Debian keeps its dialogs at its own address: it is one of the tests' own",
    )
    return finish("sip", rows, "keepalived", remarks)


if __name__ == "__main__":
    sys.exit(main())
