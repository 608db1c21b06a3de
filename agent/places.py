# SPDX-License-Identifier: GPL-2.0-or-later
"""What keeper, agent and supervisor of one node know one another's ends by."""

import argparse

KIT = "kit.json"  # in the run folder, like the sockets
KEEPER_SOCKET = "keeper.sock"
NOTEBOOK = "keeper.notes"
AGENT_SOCKET = "agent-keeper.sock"
CONSOLE_SOCKET = "agent.sock"
LAST_GOOD = "last-good.toml"  # in the state folder
LIFELINE = "STANDPIPE_LIFELINE"  # names a pipe from `standpipe run`: it ends when that does


def arguments(options: argparse.Namespace) -> list[str]:
    """The command line that says the same places to another process of this node."""
    argv = ["--run-dir", str(options.run_dir), "--state-dir", str(options.state_dir)]
    if options.watch_only:
        return [*argv, "--watch-only"]
    argv += ["--config", str(options.config)]
    return [*argv, "--node", options.node] if options.node else argv
