# SPDX-License-Identifier: GPL-2.0-or-later
"""Two sites of two servers, a client, name servers, an NMS, a UPS; things break, Standpipe mends.

`make demo`, or as root `python -m tests.lab.demo [SCENE...]`. Writes build/demo.json; exits 1 if
any scene was not as it should be. Real processes and real packets in network namespaces; all that
is printed is measured. docs/demo.md says what each scene shows.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable

from tests.lab import demo_servers, demo_sites
from tests.lab.demo_scene import Played
from tests.lab.demo_street import NotRestored, Street
from tests.lab.demo_view import View
from tests.lab.netns import LabError, now_ms
from tests.lab.world import ROOT, World

Play = Callable[[Street, Played], None]
SCENES: dict[str, Play] = {
    "steady": demo_servers.steady,
    "power-cut": demo_servers.power_cut,
    "server-returns": demo_servers.server_returns,
    "agent-killed": demo_servers.agent_killed,
    "keeper-killed": demo_servers.keeper_killed,
    "service-dies-once": demo_servers.service_dies_once,
    "service-dies-for-good": demo_servers.service_dies_for_good,
    "disk-fills": demo_servers.disk_fills,
    "ups-on-battery": demo_servers.ups_on_battery,
    "site-lost": demo_sites.site_lost,
    "site-returns": demo_sites.site_returns,
}
NEEDS = {"server-returns": "power-cut", "site-returns": "site-lost"}
INTERRUPTED = 130
RESULT = ROOT / "build" / "demo.json"


def main(argv: list[str]) -> int:
    """0 where every scene was as it should be."""
    chosen = choose(argv)
    RESULT.unlink(missing_ok=True)
    view = View()
    print("building two sites, a client, name servers, an NMS and a UPS ...", flush=True)
    try:
        with World.build() as world:
            street = Street(world, view)
            street.cluster.settle()
            view.opening("two sites of two servers each; the client asks London every millisecond")
            began_ms = now_ms()
            scenes = play_all(street, chosen)
            seconds = round((now_ms() - began_ms) / 1000, 1)
    except LabError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demo: interrupted; all of it was taken down again", file=sys.stderr)
        return INTERRUPTED
    view.table(scenes, seconds)
    write(scenes, seconds)
    return 0 if all(scene.ok for scene in scenes) else 1


def choose(argv: list[str]) -> list[str]:
    """The scenes in their order, with those that they follow from."""
    parser = argparse.ArgumentParser(prog="python -m tests.lab.demo", description=__doc__)
    parser.add_argument("scene", nargs="*", choices=[*SCENES, []], metavar="SCENE")
    wanted = set(parser.parse_args(argv).scene) or set(SCENES)
    wanted |= {NEEDS[name] for name in wanted if name in NEEDS}
    return [name for name in SCENES if name in wanted]


def play_all(street: Street, chosen: list[str]) -> list[Played]:
    """In order; after one that leaves the street in ruins the rest is not played."""
    scenes: list[Played] = []
    ruined = ""
    for place, name in enumerate(chosen, start=1):
        played = Played(name)
        scenes.append(played)
        street.view.scene(place, len(chosen), f"{name}: {SCENES[name].__doc__}")
        before = NEEDS.get(name, "")
        spoilt = ruined or next((p.name for p in scenes if p.name == before and not p.ok), "")
        if spoilt:
            played.fault(f"not played, because {spoilt} was not as it should be")
        elif not play(street, played):
            ruined = name
        street.view.verdict(played)
    return scenes


def play(street: Street, played: Played) -> bool:
    """One scene, and what the nodes say where it went wrong; False: the street is in ruins."""
    restored = True
    try:
        SCENES[played.name](street, played)
    except LabError as error:
        played.fault(str(error))
        restored = not isinstance(error, NotRestored)
    if not played.ok:
        report = RESULT.with_name(f"demo-{played.name}.txt")
        report.parent.mkdir(exist_ok=True)
        report.write_text(street.cluster.report())
        street.view.event(f"what the nodes say of it: {report}")
    return restored


def write(scenes: list[Played], seconds: float) -> None:
    """build/demo.json."""
    found = [{"name": scene.name, "ok": scene.ok, "measured": scene.measured} for scene in scenes]
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps({"scenarios": found, "seconds": seconds}, indent=2) + "\n")
    print(f"all measurements: {RESULT.relative_to(ROOT)}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
