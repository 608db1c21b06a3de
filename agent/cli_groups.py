# SPDX-License-Identifier: GPL-2.0-or-later
"""A group as people see it: who has it, who could, what it waits for, what is proved of it."""

from typing import Any

from agent.cli_paint import Paint, columns, span

ADDRESSES_SHOWN = 3
RESTING = ("", "idle", "serving")
"""Steps that are no step: nothing is on its way."""
LEASES = {
    "": ("no lease", "dim"),
    "held": ("lease held", "green"),
    "asked": ("lease asked for", "yellow"),
    "refused": ("lease refused: no majority gives it", "yellow"),
    "lost": ("LEASE LOST: stopped here", "red"),
}
"""The keeper's word -> for people, and its colour."""
PROVED = {"good": "up", "bad": "down", "stale": "degraded", "unseen": "unknown"}
"""How a proof stands -> the health that is drawn."""


def rows(detail: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """The objects of a list; none where it is no list."""
    found = detail.get(key)
    return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []


def maintenance(detail: dict[str, Any], paint: Paint) -> str:
    """Who holds this node still, and for how long; "" where nobody does."""
    found = detail.get("maintenance")
    if not isinstance(found, dict):
        return ""
    left = span(found.get("until_s"))
    until = f"for {left} more" if left else "until `standpipe maintenance off`"
    return paint(f"MAINTENANCE {until}, by {found.get('by')}", "yellow")


def groups(detail: dict[str, Any], paint: Paint, verbose: bool) -> list[str]:
    """All groups as lines. `verbose`: also each proof that is good, with its age."""
    found = rows(detail, "groups")
    head = ["GROUP", "ROLE", "STATE", "OWNER", "EPOCH", "STANDBY", "ADDRESSES"]
    table = columns(
        [head]
        + [
            [
                *(str(group.get(key) or "-") for key in ("name", "role", "state")),
                str(group.get("owner") or "nobody"),
                *(str(group.get(key)) for key in ("epoch", "standby")),
                _addresses(group),
            ]
            for group in found
        ]
    )
    lines = [paint("  ".join(table[0]), "dim")] if found else []
    for row, group in zip(table[1:], found, strict=True):
        name, role, *rest = row
        lines.append("  ".join([paint(name, "bold"), _role(role, group, paint), *rest]))
        lines.append("  " + _nodes(group, detail, paint))
        under_way = _under_way(group, paint)
        lines += ["  " + "   ".join(under_way)] if under_way else []
        lines += [line for service in rows(group, "services") for line in _service(service, paint)]
        shown = [proof for proof in rows(group, "proofs") if verbose or _missing(proof)]
        lines += [f"  {line}" for line in proofs(shown, paint)]
    return lines


def _missing(proof: dict[str, Any]) -> bool:
    """Whether people should know of it unasked: what need not be shown only counts when bad."""
    state = proof.get("state")
    return state != "good" if proof.get("weight") == "shown" else state == "bad"


def proofs(found: list[dict[str, Any]], paint: Paint) -> list[str]:
    """What is proved of a standby, and how old that is; one line each."""
    cells = columns(
        [
            [
                str(proof.get("name")),
                str(proof.get("state")),
                f"{age} ago" if (age := span(proof.get("age_s"))) else "",
                _proof_text(proof),
            ]
            for proof in found
        ]
    )
    return [
        f"{paint.health(PROVED.get(str(proof.get('state')), 'unknown'))} {'  '.join(row)}".rstrip()
        for row, proof in zip(cells, found, strict=True)
    ]


def _proof_text(proof: dict[str, Any]) -> str:
    left = proof.get("left_s")
    ends = ""
    if isinstance(left, int | float):
        ends = f"ends in {span(left)}" if left > 0 else "has ended"
    told = "people are told, it may serve all the same" if proof.get("weight") == "told" else ""
    said = str(proof.get("detail") or "")
    return "; ".join(text for text in (said, ends, told) if text)


def _under_way(group: dict[str, Any], paint: Paint) -> list[str]:
    """The step of the way up or down, sessions, the lease, probation: what there is of them."""
    parts = []
    step, sessions = str(group.get("step") or ""), group.get("sessions")
    if step not in RESTING:
        parts.append(paint(f"{paint.symbol('arrow')} {step}", "yellow"))
    if isinstance(sessions, int) and (sessions or step == "draining"):
        parts.append(f"{sessions} session{'' if sessions == 1 else 's'} up")
    elif step == "draining":
        parts.append("sessions: not known how many")
    if group.get("exclusive") not in (None, "segment"):
        text, colour = LEASES.get(str(group.get("lease") or ""), ("lease ?", "violet"))
        parts.append(paint(text, colour))
    if group.get("role") == "probation" and span(group.get("probation_s")):
        parts.append(paint(f"probation: {span(group['probation_s'])} of good health to go", "dim"))
    return parts


def _role(padded: str, group: dict[str, Any], paint: Paint) -> str:
    if not group.get("owner") or group.get("role") == "quarantine":
        return paint(padded, "red")
    if group.get("role") == "active":
        return paint(padded, "green")
    return padded if group.get("ready") or group.get("able") else paint(padded, "yellow")


def _addresses(group: dict[str, Any]) -> str:
    addresses = group.get("addresses")
    texts = [str(address) for address in addresses] if isinstance(addresses, list) else []
    more = len(texts) - ADDRESSES_SHOWN
    return " ".join(texts[:ADDRESSES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _nodes(group: dict[str, Any], detail: dict[str, Any], paint: Paint) -> str:
    """Who has it and who could: every node of the group that is known here."""
    owner = group.get("owner")
    chips = [(str(detail.get("node")), str(group.get("state") or "unknown"), group, True)]
    for peer in rows(detail, "peers"):
        there = peer.get("groups")
        word = there.get(group.get("name")) if isinstance(there, dict) else None
        if isinstance(word, dict):
            alive = peer.get("state") in ("alive", "held")
            state = str(word.get("state") if alive else peer.get("state"))
            chips.append((str(peer.get("name")), state, word, alive))
    drawn = []
    for name, state, word, alive in chips:
        health = "up" if name == owner else "down" if not alive else "unknown"
        dot = paint.health(health) if health != "unknown" else ("○" if paint.fancy else "o")
        fit, colour = _fitness(word)
        note = state if name == owner or not alive else f"{state}, {fit}"
        drawn.append(f"{dot} {name} {paint(note, '' if name == owner else colour)}")
    plain = group.get("plain_peers")
    if owner and isinstance(plain, list) and owner in plain:
        drawn.append(f"{paint.health('up')} plain peer {owner} has it")
    why = f"   {paint(str(group['why']), 'dim')}" if group.get("why") else ""
    return "   ".join(drawn) + why


def _fitness(word: dict[str, Any]) -> tuple[str, str]:
    """Whether a node could have the group at once, or after it was brought up; and its colour."""
    if word.get("ready"):
        return "ready", ""
    return ("ready to start", "") if word.get("able") else ("not ready", "yellow")


def _service(service: dict[str, Any], paint: Paint) -> list[str]:
    health = str(service.get("health"))
    if service.get("state") == "off" and health != "up":
        return [f"  {'○' if paint.fancy else 'o'} {service.get('name')} off"]
    left = service.get("restarts_left")
    line = f"  {paint.health(health)} {service.get('name')} {health}"
    state = service.get("state")
    line += f" ({state})" if state and state != "well" else ""
    line += f", {left} restart{'' if left == 1 else 's'} left" if isinstance(left, int) else ""
    checks = rows(service, "checks")
    line += "".join(f"  {paint.health(str(c.get('health')))} {c.get('name')}" for c in checks)
    bad = [check for check in checks if check.get("health") != "up" and check.get("detail")]
    return [line] + [
        f"      {check.get('name')}: {check.get('detail')}"
        + (f"  ({span(check.get('age_s'))} ago)" if span(check.get("age_s")) else "")
        for check in bad
    ]
