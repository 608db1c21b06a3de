# SPDX-License-Identifier: GPL-2.0-or-later
"""A folder in memory, in the place of one far away."""

from agent.ports import Garbled, PortError


class MemoryFolder:
    """objects: path -> content. fail_after: so many writes succeed, then `failure` is raised."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.folders: set[str] = set()
        self.writes: list[str] = []
        self.reads = 0
        self.fail_after: int | None = None
        self.failure: PortError | None = None
        self.closed = False

    def read(self, path: str, most_bytes: int) -> bytes | None:
        self.reads += 1
        content = self.objects.get(path)
        if content is not None and len(content) > most_bytes:
            raise Garbled(f"more than {most_bytes} bytes")
        return content

    def write(self, path: str, content: bytes) -> None:
        assert path.partition("/")[0] in self.folders
        if self.failure is not None and self.fail_after == len(self.writes):
            raise self.failure
        self.writes.append(path)
        self.objects[path] = content

    def names(self, folder: str) -> dict[str, int]:
        assert folder in self.folders
        return {
            path.partition("/")[2]: len(content)
            for path, content in self.objects.items()
            if path.startswith(f"{folder}/")
        }

    def make(self, folder: str) -> None:
        self.folders.add(folder)

    def remove(self, path: str) -> None:
        self.objects.pop(path, None)

    def close(self) -> None:
        self.closed = True
