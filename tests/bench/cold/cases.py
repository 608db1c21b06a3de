# SPDX-License-Identifier: GPL-2.0-or-later
"""What goes wrong on the appliances; every seat meets it at the same moment."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable

from tests.bench.cold.plant import Plant, Seen
from tests.bench.cold.seats import NODES
from tests.bench.vip.pair import sleep_until
from tests.lab.appliances import cut_power
from tests.lab.cold_split import rejoin, split
from tests.lab.netns import now_ms

LIMIT_S = 25.0  # a client is waited for that long
HOLD_MS = 20_000.0  # how long a manager or a node is frozen
SPLIT_MS = 12_000.0
RETURN_MS = 5000.0  # watched after a repair
FIRST, SECOND = NODES


def power_cut(plant: Plant) -> Seen:
    """Of the node that serves; then it returns."""
    active = plant.gather()
    with plant.watched() as eyes:
        at_ms = active.power_cut()
        time.sleep(0.5)
        seen = plant.saw(eyes, "", at_ms, plant.served(eyes, LIMIT_S))
        back_ms = now_ms()
        plant.boot(active.name)
        plant.settle()
        seen |= plant.saw(eyes, "return: ", back_ms, plant.until(now_ms() + RETURN_MS))
    return seen


def killed(plant: Plant) -> Seen:
    """The ledgers' main processes, SIGKILL."""
    return _signalled(plant, signal.SIGKILL)


def hung(plant: Plant) -> Seen:
    """The ledgers' main processes, SIGSTOP."""
    return _signalled(plant, signal.SIGSTOP)


def _signalled(plant: Plant, number: signal.Signals) -> Seen:
    active = plant.gather()
    pids = [active.pid_of(seat.unit) for seat in plant.seats]
    with plant.watched() as eyes:
        at_ms = now_ms()
        for pid in pids:
            os.kill(pid, number)
        time.sleep(0.5)
        seen = plant.saw(eyes, "", at_ms, plant.served(eyes, LIMIT_S))
        _tell(pids, signal.SIGCONT)
    return seen


def _tell(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def no_start(plant: Plant) -> Seen:
    """The ledgers die and do not start again on that node."""
    active = plant.gather()
    pids = [active.pid_of(seat.unit) for seat in plant.seats]
    with plant.watched() as eyes:
        for seat in plant.seats:
            active.write(seat.refusal, "")
        at_ms = now_ms()
        _tell(pids, signal.SIGKILL)
        time.sleep(0.5)
        end_ms = plant.served(eyes, LIMIT_S)
        end_ms = plant.until(max(end_ms, at_ms + 10_000))
        seen = plant.saw(eyes, "", at_ms, end_ms)
        for seat in plant.seats:
            tries = (active.root / seat.refusal[1:]).read_text().count("\n")
            seen["starts on the sick node", seat.name] = tries
    for seat in plant.seats:
        active.run("rm", seat.refusal)
        plant.stack(seat).clear(seat, active)
    return seen


def planned(plant: Plant) -> Seen:
    """Each seat in turn moves to the other node."""
    plant.settle()
    seen: Seen = {}
    for seat in plant.seats:
        held = plant.owner(seat)
        to = next(node for node in NODES if node != held)
        with plant.watched() as eyes:
            at_ms = now_ms()
            plant.move(seat, held, to)
            found = plant.saw(eyes, "", at_ms, plant.served(eyes, LIMIT_S))
        seen |= {key: value for key, value in found.items() if key[1] == seat.name}
        plant.settle()
    return seen


def manager_killed(role: int, plant: Plant) -> Seen:
    """SIGKILL; what nobody has started again after HOLD_MS an operator starts."""
    return _manager(role, plant, signal.SIGKILL)


def manager_frozen(role: int, plant: Plant) -> Seen:
    """SIGSTOP, and SIGCONT after HOLD_MS."""
    return _manager(role, plant, signal.SIGSTOP)


def _manager(role: int, plant: Plant, number: signal.Signals) -> Seen:
    active = plant.gather()
    units = [stack.managers[role % len(stack.managers)] for stack in plant.stacks]
    pids = [pid for unit in units for pid in active.pids_of(unit)]
    with plant.watched() as eyes:
        at_ms = now_ms()
        _tell(pids, number)
        end_ms = plant.until(at_ms + HOLD_MS)
        seen = plant.saw(eyes, "", at_ms, end_ms)
        back_ms = now_ms()
        _tell(pids, signal.SIGCONT)
        for stack in plant.stacks:
            stack.revive(active)
        plant.settle()
        seen |= plant.saw(eyes, "after: ", back_ms, plant.until(now_ms() + RETURN_MS))
    return seen


def node_frozen(plant: Plant) -> Seen:
    """Every process of the node that serves, for HOLD_MS."""
    active = plant.gather()
    with plant.watched() as eyes:
        at_ms = active.freeze()
        sleep_until(at_ms + HOLD_MS)
        thaw_ms = active.thaw()
        seen = plant.saw(eyes, "", at_ms, thaw_ms)
        end_ms = plant.until(thaw_ms + RETURN_MS)
        seen |= plant.saw(eyes, "thawed: ", thaw_ms, end_ms)
    for stack in plant.stacks:
        stack.revive(active)
    return seen


def split_with_witness(plant: Plant) -> Seen:
    """The two no longer hear one another; the client and the witness hear both."""
    active = plant.gather()
    return _split(plant, active.name)


def split_alone(plant: Plant) -> Seen:
    """The same while the witness is off."""
    active = plant.gather()
    plant.witness.power_cut()
    time.sleep(3.0)
    try:
        return _split(plant, active.name)
    finally:
        plant.boot(plant.witness.name)


def _split(plant: Plant, active: str) -> Seen:
    alarms: dict[str, float] = {}
    with plant.watched() as eyes:
        at_ms = now_ms()
        split(plant.world, *NODES)
        while now_ms() < at_ms + SPLIT_MS:
            for seat in plant.seats:
                stack, there = plant.stack(seat), plant.appliances[SECOND]
                if seat.name not in alarms and stack.alarmed(seat, there):
                    alarms[seat.name] = now_ms() - at_ms
            time.sleep(0.1)
        end_ms = plant.until(now_ms())
        seen = plant.saw(eyes, "", at_ms, end_ms)
        for seat in plant.seats:
            seen["alarm after", seat.name] = alarms.get(seat.name, SPLIT_MS)
        heal_ms = now_ms()
        rejoin(plant.world)
        end_ms = plant.until(heal_ms + 2 * RETURN_MS)
        seen |= plant.saw(eyes, "healed: ", heal_ms, end_ms)
        for seat in plant.seats:
            restarts = plant.notebooks[seat.name].starts(active, heal_ms, end_ms)
            seen["healed: survivor started again", seat.name] = restarts
    return seen


def silent_cut(plant: Plant) -> Seen:
    """The node that serves is cut off on every network and keeps its carriers."""
    return _isolated(plant, lambda port: port.mute(), lambda port: port.heal())


def carrier_cut(plant: Plant) -> Seen:
    """The node that serves loses all cables."""
    return _isolated(plant, lambda port: port.down(), lambda port: port.up())


def _isolated(plant: Plant, cut: Callable[..., None], heal: Callable[..., None]) -> Seen:
    active = plant.gather()
    ports = list(active.node.ports.values())
    with plant.watched() as eyes:
        at_ms = now_ms()
        for port in ports:
            cut(port)
        time.sleep(0.5)
        seen = plant.saw(eyes, "", at_ms, plant.served(eyes, LIMIT_S))
        heal_ms = now_ms()
        for port in ports:
            heal(port)
        seen |= plant.saw(eyes, "healed: ", heal_ms, plant.until(heal_ms + 2 * RETURN_MS))
    return seen


def both_return(plant: Plant) -> Seen:
    """Both nodes lose their power, and have it again at once."""
    return _black_start(plant, NODES, NODES)


def standby_returns(plant: Plant) -> Seen:
    """Both nodes lose their power, and only the one that stood by has it again."""
    return _black_start(plant, NODES, (SECOND,))


def owner_returns(plant: Plant) -> Seen:
    """Both nodes lose their power, and only the one that served has it again."""
    return _black_start(plant, NODES, (FIRST,))


def _black_start(plant: Plant, dark: tuple[str, ...], back: tuple[str, ...]) -> Seen:
    plant.gather()
    with plant.watched() as eyes:
        at_ms = cut_power([plant.appliances[name] for name in dark])
        time.sleep(2.0)
        on_ms = now_ms()
        plant.boot(*back)
        end_ms = plant.served(eyes, LIMIT_S)
        seen = plant.saw(eyes, "", at_ms, end_ms)
        for seat in plant.seats:
            seen["served after power on", seat.name] = eyes.first_served_ms(seat, on_ms, end_ms)
    rest = [name for name in dark if name not in back]
    plant.boot(*rest)
    plant.settle()
    return seen
