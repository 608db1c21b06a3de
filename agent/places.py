# SPDX-License-Identifier: GPL-2.0-or-later
"""What keeper, agent and supervisor of one node know one another's ends by."""

KIT = "kit.json"  # in the run folder, like the sockets
KEEPER_SOCKET = "keeper.sock"
AGENT_SOCKET = "agent-keeper.sock"
CONSOLE_SOCKET = "agent.sock"
LAST_GOOD = "last-good.toml"  # in the state folder
LIFELINE = "STANDPIPE_LIFELINE"  # names a pipe from `standpipe run`: it ends when that does
