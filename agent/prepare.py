# SPDX-License-Identifier: GPL-2.0-or-later
"""Checks the configuration and forges the keeper's kit, in a process that ends.

    python -m agent.prepare --config FILE [--node NAME] --run-dir DIR --state-dir DIR

A file that was accepted is kept as the last good one, so that a machine that boots after a bad edit
still protects: it is used, with the problems shown, where the file itself is refused.
"""

import argparse
import os
import socket
import sys
from pathlib import Path

from agent.config import ConfigError, load, watch_only
from agent.core.settings import Settings
from agent.places import LAST_GOOD
from agent.ports import PortError
from agent.wiring import forge_kit


def read_settings(options: argparse.Namespace) -> tuple[Settings, tuple[str, ...]]:
    """What is in force, and the problems of the file where the last good one is in force instead.

    Raises ConfigError where neither can be used.
    """
    if options.watch_only:
        return watch_only(socket.gethostname()), ()
    good: Path = options.state_dir / LAST_GOOD
    try:
        return load(options.config, options.node), ()
    except ConfigError as error:
        if not good.exists():
            raise
        # a secret that is gone must not take the protection with it
        settings = load(good, options.node, check_files=False)
        return settings, tuple(str(problem) for problem in error.problems)


def keep_good(config: Path, state_dir: Path) -> None:
    """This file was accepted: remember it as it is, whole or not at all."""
    aside = state_dir / (LAST_GOOD + ".new")
    with open(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(config.read_bytes())
    os.replace(aside, state_dir / LAST_GOOD)


def places(parser: argparse.ArgumentParser) -> None:
    """The options that say where everything is."""
    parser.add_argument("--config", type=Path)
    parser.add_argument("--node")
    parser.add_argument("--run-dir", type=Path, required=True)
    parser.add_argument("--state-dir", type=Path, required=True)
    parser.add_argument("--watch-only", action="store_true")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m agent.prepare", description=__doc__)
    places(parser)
    options = parser.parse_args()
    try:
        settings, problems = read_settings(options)
        for problem in problems:
            print(f"standpipe: {problem}", file=sys.stderr)
        if problems:
            print("standpipe: the last good configuration stays in force", file=sys.stderr)
        forge_kit(settings, options.run_dir)
        if options.config is not None and not problems:
            keep_good(options.config, options.state_dir)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 1
    except (PortError, OSError) as error:
        print(f"standpipe: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
