# SPDX-License-Identifier: GPL-2.0-or-later
"""The death of a service's main process, known at once (pidfd_open(2)): nothing is polled."""

import asyncio
import errno
import os
import select
from collections.abc import Callable

from agent.ports import Refused, Unreachable


class Deaths:
    """One process for each service. A pidfd stands for the process, never for its number."""

    def __init__(self) -> None:
        self._followed: dict[tuple[str, str], int] = {}

    def follow(self, group: str, service: str, pid: int, on_death: Callable[[], None]) -> bool:
        """Instead of the one followed before; False where it is dead already.

        Raises Refused where this kernel or a sandbox forbids it, Unreachable where nothing is left
        to do it with.
        """
        self.forget(group, service)
        try:
            fd = os.pidfd_open(pid)
        except OSError as error:
            if error.errno in (errno.ESRCH, errno.EINVAL):  # gone, or no process but a thread
                return False
            why = f"service {service} of {group}: pid {pid}: {os.strerror(error.errno or 0)}"
            if error.errno in (errno.EPERM, errno.ENOSYS):
                raise Refused(f"{why}; allow pidfd_open, see SystemCallFilter=") from error
            raise Unreachable(f"{why}; see ulimit -n") from error
        if _ended(fd):
            os.close(fd)
            return False
        self._followed[group, service] = fd

        def died() -> None:
            self.forget(group, service)
            on_death()

        asyncio.get_running_loop().add_reader(fd, died)
        return True

    def forget(self, group: str, service: str) -> None:
        """Its death is of no interest any more."""
        fd = self._followed.pop((group, service), None)
        if fd is not None:
            asyncio.get_running_loop().remove_reader(fd)
            os.close(fd)


def _ended(fd: int) -> bool:
    """Readable: it has terminated, a zombie too."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))
