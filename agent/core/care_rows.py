# SPDX-License-Identifier: GPL-2.0-or-later
"""How one service is looked after: asked, restarted within its budget, given up, stopped.

States: OFF (must not run here: a cold standby), LOOKING (was it left running?), FRESH (the agent
has just begun to ask), STARTING, PROVING (started, not yet heard to be alive), WELL, MOVING (it
fails; the group goes to a peer before it is restarted here), FELLING (it hangs and is killed, so
that it never wakes), RESTARTING, SPENT (the restarts did not help), STOPPING, KILLING (it does not
stop), STUCK (nor does it die).
"""

from agent.core.table import Row

OFF, FRESH, STARTING, PROVING = "off", "fresh", "starting", "proving"
WELL, MOVING, FELLING, RESTARTING = "well", "moving", "felling", "restarting"
SPENT, STOPPING, KILLING, STUCK = "spent", "stopping", "killing", "stuck"
LOOKING = "looking"
STATES = (
    *(OFF, FRESH, STARTING, PROVING, WELL, MOVING, FELLING, RESTARTING),
    *(SPENT, STOPPING, KILLING, STUCK, LOOKING),
)

ENDING = (OFF, STOPPING, KILLING, STUCK, LOOKING)

FELT_MS = 400  # a caller's first repeat comes after 500 ms (RFC 3261 T1): a shorter gap is not felt
TRIES = 2  # so many starts in a row that come to nothing, where a peer could serve instead
STOPS = 2  # so many failed stops, then it is killed
STOP_AGAIN_MS = 5_000
MOVE_WITHIN_MS = 2_000
KILL_WITHIN_MS = 2_000
REST_MS = 1_000

_FAILING = (
    ("died", "its main process is gone", "restart", RESTARTING, ()),
    ("hung", "it lives and does not answer", "kill", FELLING, ("kill_aside",)),
    ("down", "it answers wrongly, or not at all", "restart", RESTARTING, ()),
)

ROWS = (
    Row("C-LEFT-OVER", OFF, "left_over", (), LOOKING, ("look",),
        "an earlier agent may have left it running: look"),
    Row("C-NOT-LEFT", LOOKING, "done", ("needed",), STARTING, ("start",),
        "it does not run, and is needed: start it"),
    Row("C-NOT-LEFT-OFF", LOOKING, "done", (), OFF, ("settle",), "it does not run"),
    Row("C-LEFT-RUNNING", LOOKING, "failed", ("alone",), STOPPING, ("kill_aside", "stop"),
        "it was left running, and two copies must never run: end it now"),
    Row("C-LEFT-RUNNING-STOP", LOOKING, "failed", (), STOPPING, ("stop",),
        "it was left running: stop it"),
    Row("C-LEFT-UNKNOWN", LOOKING, "unknown", (), STOPPING, ("stop",),
        "nobody can say whether it was left running: stop it"),
    Row("C-WANTED", OFF, "wanted", (), STARTING, ("start",), "this node is to serve: start it"),
    Row("C-SERVES", OFF, "serving", (), FRESH, (),
        "this node has the addresses, so the service is meant to run: an earlier agent started it"),
    Row("C-STARTED", STARTING, "done", (), PROVING, ("prove",), "started: now it must answer"),
    Row("C-START-UNKNOWN", STARTING, "unknown", (), PROVING, ("prove",),
        "the start timed out, which is not a no: its answers will tell"),
    Row("C-START-AGAIN", STARTING, "failed", ("again",), "", ("spend", "start"), "try once more"),
    Row("C-NO-START", STARTING, "failed", (), SPENT, ("rest",), "it will not start here"),
    Row("C-ALIVE", PROVING, "up", (), WELL, ("settle",), "it answers"),
    Row("C-CRASHED", PROVING, "died", ("may_act", "again"), RESTARTING, ("spend", "restart"),
        "started, and its main process is gone already: once more"),
    Row("C-CRASHED-SPENT", PROVING, "died", ("may_act",), SPENT, ("rest",),
        "it does not live for long when it is started here"),
    Row("C-UNASKED", PROVING, "late", ("nothing_to_ask",), WELL, ("settle",),
        "there is nothing to ask of it here"),
    Row("C-MUTE-HUNG", PROVING, "late", ("may_act", "again", "hangs"), FELLING, ("spend", "kill"),
        "started, but it lives and does not answer: kill it, then start it again"),
    Row("C-MUTE", PROVING, "late", ("may_act", "again"), RESTARTING, ("spend", "restart"),
        "started, but it does not answer: restart it"),
    Row("C-MUTE-SPENT", PROVING, "late", ("may_act",), SPENT, ("rest",),
        "started again and again, and it does not answer"),
    Row("C-MUTE-LET", PROVING, "late", (), "", ("prove",),
        "maintenance: nothing is done by itself"),
    # ---- it ran, and fails
    Row("C-FRESH-UP", FRESH, "up", (), WELL, ("settle",), "it answers"),
    *(
        row
        for event, what, mend, then, aside in _FAILING
        for state in (FRESH, WELL)
        for name in ((event if state == WELL else f"fresh-{event}").upper(),)
        for row in (
            Row(f"C-{name}-WAITS", state, event, ("may_act", "!grounded"), "", (),
                "a service that it stands on is not well: that one is mended first", quiet=True),
            Row(f"C-{name}-MOVE", state, event, ("may_act", "move_first"), MOVING,
                (*aside, "leave"),
                f"{what}: callers would notice a restart, so a peer takes the group first"),
            Row(f"C-{name}", state, event, ("may_act", "budget"), then, ("spend", mend),
                f"{what}: {mend} it" + (", lest it wakes later" if aside else "")),
            Row(f"C-{name}-SPENT", state, event, ("may_act",), SPENT, (*aside, "rest"),
                f"{what}, and no restart is left: it is not a passing fault"),
        )
    ),
    Row("C-FRESH-LET", FRESH, "down", (), WELL, (), "maintenance: it is only watched"),
    Row("C-DOWN-LET", WELL, "down", (), "", (), "maintenance: it is only watched"),
    Row("C-MOVING-BACK", MOVING, "up", (), WELL, ("settle",),
        "it answers again before the group has gone"),
    Row("C-MOVED", MOVING, "gone", ("budget",), RESTARTING, ("spend", "restart"),
        "a peer has the group: now restart it here, as a standby"),
    Row("C-MOVED-SPENT", MOVING, "gone", (), SPENT, ("rest",),
        "a peer has the group, and no restart is left here"),
    Row("C-UNMOVED", MOVING, "late", ("budget",), RESTARTING, ("spend", "restart"),
        "no peer has taken the group in time: restart it here"),
    Row("C-UNMOVED-SPENT", MOVING, "late", (), SPENT, ("rest",),
        "no peer has taken the group in time, and no restart is left"),
    *(
        Row(f"C-FELLED-{event.upper()}", FELLING, event, (), RESTARTING, ("restart",), why)
        for event, why in (
            ("done", "it is gone, with all that hung on it: start it again"),
            ("failed", "it could not be killed: a restart stops it first"),
            ("unknown", "nobody knows whether it is gone: a restart stops it first"),
        )
    ),
    Row("C-RESTARTED", RESTARTING, "done", (), PROVING, ("prove",),
        "restarted: now it must answer"),
    Row("C-RESTART-UNKNOWN", RESTARTING, "unknown", (), PROVING, ("prove",),
        "the restart timed out, which is not a no: its answers will tell"),
    Row("C-RESTART-AGAIN", RESTARTING, "failed", ("again",), "", ("spend", "restart"),
        "the restart failed: once more"),
    Row("C-RESTART-SPENT", RESTARTING, "failed", (), SPENT, ("rest",), "the restarts do not help"),
    Row("C-BACK", SPENT, "up", (), WELL, ("settle",), "it answers again, by whatever hand"),
    Row("C-FORGIVEN", SPENT, "late", ("may_act", "again"), RESTARTING, ("spend", "restart"),
        "a restart is left, forgiven by time, or no peer can take the group: use it"),
    Row("C-STILL-SPENT", SPENT, "late", (), "", ("rest_on",), "no restart is left yet", quiet=True),
    Row("C-CLEARED", SPENT, "cleared", (), RESTARTING, ("anew", "spend", "restart"),
        "an operator has looked: the whole budget is there again"),
    # ---- it must not run here
    Row("C-STOP-LOOK", STOPPING, "unknown", (), "", ("look",),
        "the stop timed out: look whether it runs before deciding"),
    Row("C-STOP-KILL", STOPPING, "failed", ("asked_enough",), KILLING, ("kill",),
        "it was asked to stop often enough: kill it"),
    Row("C-STOP-AGAIN", STOPPING, "failed", (), "", ("stop_later",),
        "the stop failed: it has an owner"),
    Row("C-STOP-NOW", STOPPING, "late", (), "", ("stop",), "try to stop it again"),
    *(
        Row(f"C-UNKILLED-{event.upper()}", KILLING, event, (), STUCK, ("look_later",),
            "it can be neither stopped nor killed: a human must look, or its node be switched off")
        for event in ("failed", "unknown")
    ),
    Row("C-STUCK-LOOK", STUCK, "late", (), "", ("look",), "is it still there?", quiet=True),
    *(
        Row(f"C-STUCK-{event.upper()}", STUCK, event, (), "", ("look_later",),
            "it is still there", quiet=True)
        for event in ("failed", "unknown")
    ),
    Row("C-STUCK-CLEARED", STUCK, "cleared", (), STOPPING, ("stop",),
        "an operator has looked: stop it now"),
    *(
        row
        for state, name in ((STOPPING, "STOP"), (KILLING, "KILL"), (STUCK, "STUCK"))
        for row in (
            Row(f"C-{name}-DONE-WANTED", state, "done", ("needed",), STARTING, ("start",),
                "stopped, and needed here after all: start it again"),
            Row(f"C-{name}-DONE", state, "done", (), OFF, ("settle",), "stopped, and seen to be"),
        )
    ),
    *(
        row
        for state, name in (
            *((STOPPING, "STOP"), (KILLING, "KILL"), (STUCK, "STUCK")),
            (LOOKING, "LOOK"),
        )
        for row in (
            Row(f"C-{name}-WANTED", state, "wanted", (), "", ("need",),
                "needed here after all: let it end first"),
            Row(f"C-{name}-SERVES", state, "serving", (), "", ("need",),
                "this node has the addresses again: let the stop end first"),
            Row(f"C-{name}-UNWANTED", state, "unwanted", (), "", ("need_not",),
                "it is being stopped", quiet=True),
        )
    ),
    Row("C-UNWANTED-OFF", OFF, "unwanted", (), "", (), "it does not run here", quiet=True),
    Row("C-UNWANTED", "*", "unwanted", (), STOPPING, ("need_not", "stop"),
        "another node serves: a cold standby does not run"),
)  # fmt: skip
