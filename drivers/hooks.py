# SPDX-License-Identifier: GPL-2.0-or-later
"""A group's commands: promote, demote, drain, undrain, ramp, apply. sh(1), with a limit."""

from shlex import quote

from agent.core.settings import GroupSettings
from agent.ports import Refused, Unreachable
from drivers.shell import question, said


class GroupHooks:
    """ports.Hooks. A hook leaves nobody behind: what it started is killed when it ends.

    The command sees STANDPIPE_GROUP, STANDPIPE_NODE, and in a realtime group STANDPIPE_JITTER_MS:
    within what time clients are to come back, each at a random moment. `word`, where there is one,
    is its last argument.
    """

    def __init__(self, group: GroupSettings, node: str) -> None:
        self._group = group.name
        realtime, carried = group.realtime, group.carried
        self._told = {"STANDPIPE_GROUP": group.name, "STANDPIPE_NODE": node}
        if realtime:
            self._told["STANDPIPE_JITTER_MS"] = str(realtime.jitter_ms)
        self._commands = {
            "promote": group.promote,
            "demote": group.demote,
            "drain": realtime.drain if realtime else "",
            "undrain": realtime.undrain if realtime else "",
            "ramp": realtime.ramp if realtime else "",
            "apply": carried.apply if carried else "",
        }

    async def run(self, hook: str, word: str, within_ms: int) -> str:
        """Raises Refused (it said no), Unreachable (it did not end: nobody knows what it did)."""
        command = self._commands.get(hook, "")
        who = f"group {self._group}: {hook}"
        if not command:
            raise Refused(f"{who}: no such command is configured")
        exported = " ".join(f"{name}={quote(value)}" for name, value in self._told.items())
        line = f"export {exported}; {command}" + (f" {quote(word)}" if word else "")
        try:
            ended = await question(line, within_ms)
        except OSError as error:
            raise Unreachable(
                f"{who}: could not be run: {error.strerror}; see ulimit -u -n"
            ) from error
        if ended.code is None:
            heard = f": {ended.tail}" if ended.tail else ""
            raise Unreachable(f"{who}: did not end within {within_ms} ms and was killed{heard}")
        if ended.code != 0:
            raise Refused(f"{who}: {said(ended)}; run by hand: {command}")
        return f"{hook} done in {ended.took_ms} ms"
