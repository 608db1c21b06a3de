# SPDX-License-Identifier: GPL-2.0-or-later
"""A command in a terminal of its own."""

import os
import pty
import select
import sys
import time

from tests.cli.playing import ENDING


class Terminal:
    """`standpipe` with a pseudo-terminal as its standard streams."""

    def __init__(self, *args: str, env: dict[str, str]) -> None:
        self.pid, self.screen = pty.fork()
        if not self.pid:
            code = "import sys; from agent.cli import main; sys.exit(main())"
            os.execve(sys.executable, [sys.executable, "-c", code, *args], ENDING | env)
        self.text = ""

    def read_until(self, wanted: str) -> None:
        deadline = time.monotonic() + 20
        while wanted not in self.text:
            assert time.monotonic() < deadline, self.text
            if select.select([self.screen], [], [], 1)[0]:
                try:
                    self.text += os.read(self.screen, 65536).decode()
                except OSError:  # the process has ended
                    break
        assert wanted in self.text

    def interrupt(self) -> int:
        """After Ctrl-C. The exit status."""
        os.write(self.screen, b"\x03")
        return self.end()

    def end(self) -> int:
        """When it has ended by itself. The exit status."""
        while True:
            try:
                part = os.read(self.screen, 65536)
            except OSError:
                break
            if not part:
                break
            self.text += part.decode()
        _, status = os.waitpid(self.pid, 0)
        os.close(self.screen)
        return os.waitstatus_to_exitcode(status)
