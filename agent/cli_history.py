# SPDX-License-Identifier: GPL-2.0-or-later
"""`standpipe explain` and `standpipe journal`: why, and what was."""

import argparse
import json
import sys
import time
from typing import Any

from agent.cli_groups import RESTING, maintenance, proofs, rows
from agent.cli_paint import Paint, columns, paint_for_stdout, span, write_lines
from agent.cli_socket import Unanswered, ask, cleaned, complain, show_json

WITHIN_S = 10.0
FAR_S = 253_402_300_800  # the year 10000
SENSES = {
    "well": "whoever was asked there answers",
    "hears": "frames come in, and there is nobody to ask",
    "unanswered": "frames come in, but nobody who is asked answers",
    "deaf": "nothing comes in, or the gateway does not answer",
    "unknown": "nobody had to look yet, or nothing comes in and there is nobody to ask",
}
"""What an interface was found to hear at the last look, for people."""
WAY_RULES = "B-"
"""Of the way into service and out of it: of interest while a group is on it."""
KIND_COLOURS = {"alarm": "yellow", "operator": "bold", "outcome": "", "decision": "green"}


def explain(options: argparse.Namespace) -> int:
    """Exit 1 where there is no such group."""
    args = {"group": options.group} if options.group else {}
    detail = _asked(options, "explain", args)
    if detail is None:
        return 1
    if options.json:
        show_json(detail)
        return 0
    paint = paint_for_stdout()
    write_lines(explanation(cleaned(detail), paint), paint)
    return 0


def journal(options: argparse.Namespace) -> int:
    """Exit 1 with --verify where the chain is broken."""
    detail = _asked(options, "journal", {"last": options.last})
    if detail is None:
        return 1
    broken = detail.get("chain_ok") is not True
    if options.json:
        show_json(detail)
    else:
        paint = paint_for_stdout()
        records = cleaned(detail.get("records")) or []
        write_lines(pages(records, paint), paint)
        if broken:
            sys.stderr.write(
                "standpipe: the chain of the journal is broken: a record was changed or lost; "
                "copy the store before anything else, then compare it with the peers' journals\n"
            )
        elif options.verify:
            write_lines([f"chain holds: {len(records)} records read, none changed"], paint)
    return int(broken and options.verify)


def _asked(options: argparse.Namespace, verb: str, args: dict[str, Any]) -> dict[str, Any] | None:
    try:
        answer = ask(options, verb, args, within_s=WITHIN_S)
    except Unanswered as error:
        complain(error)
        return None
    if not answer["ok"]:
        sys.stderr.write(f"standpipe: {answer['text']}\n")
        return None
    detail: dict[str, Any] = answer["detail"]
    return detail


def explanation(detail: dict[str, Any], paint: Paint) -> list[str]:
    """The decisions, newest last; then where each group is, and what its next step needs."""
    decisions = [
        line for decision in detail.get("decisions") or [] for line in _told(decision, paint)
    ]
    held = maintenance(detail, paint)
    lines = [*([held, ""] if held else []), *decisions]
    lines += [] if decisions else ["no decision yet: nothing had to change"]
    for group, now in (detail.get("now") or {}).items():
        lines += ["", *_standing(group, now, paint)]
    senses = detail.get("senses") or {}
    lines += [""] if senses else []
    for interface, sense in senses.items():
        lines.append(f"{paint(f'link {interface}', 'bold')} is {sense}: {SENSES.get(sense, '?')}")
    return lines


def _standing(group: str, now: dict[str, Any], paint: Paint) -> list[str]:
    """Where a group is, what its next step needs, and what is proved of it."""
    step = str(now.get("step") or "")
    resting = step in RESTING
    state = ", ".join(str(word) for word in (now.get("role"), now.get("state")))
    state += "" if resting else f", {step}"
    lines = [f"{paint(f'group {group}', 'bold')} is {state}: {now.get('why') or 'as it began'}"]
    rules = [
        rule
        for rule in rows(now, "next")
        if not (resting and str(rule.get("rule")).startswith(WAY_RULES))
    ]
    lines += ["  what would change that:"] if rules else []
    lines += [
        "    " + "  ".join(cells).rstrip()
        for cells in columns([_step(rule, paint) for rule in rules])
    ]
    proved = [f"    {line}" for line in proofs(rows(now, "proofs"), paint)]
    lines += ["  what is proved of this standby:", *proved] if proved else []
    plain = now.get("plain_peers") or []
    lines += [f"  plain peers, known by their adverts alone: {', '.join(plain)}"] if plain else []
    return lines


def _told(decision: dict[str, Any], paint: Paint) -> list[str]:
    arrow = paint.symbol("arrow")
    ago = f"{span(decision.get('at_s_ago'))} ago".rjust(12)
    before, after = decision.get("before"), decision.get("after")
    change = f"{before} {arrow} {after}" if before != after else f"stays {after}"
    indent = " " * 14
    lines = [
        f"{ago}  {paint(str(decision.get('machine')), 'bold')}: {change}",
        f"{indent}because {decision.get('why')}  (rule {decision.get('rule')})",
    ]
    inputs = decision.get("inputs") or {}
    if inputs:
        lines.append(indent + "saw " + ", ".join(f"{k}={_value(v)}" for k, v in inputs.items()))
    for pair in decision.get("rejected") or []:
        rule, guard = (*pair, "", "")[:2]
        lines.append(paint(f"{indent}not {rule}: needs {_plain(guard)}", "dim"))
    return lines


def _step(step: dict[str, Any], paint: Paint) -> list[str]:
    event, after, needs = step.get("event"), step.get("next"), step.get("needs") or []
    still = [_plain(need) for need in needs if need != event]
    unmet = f"still needs {', '.join(still)}" if still else "" if needs else "has all it needs"
    return [
        str(step.get("rule")),
        f"{paint.symbol('arrow')} {after}" if after else "",
        f"on {_plain(event)}" if event else "",
        unmet,
        str(step.get("why") or ""),
    ]


def _plain(name: Any) -> str:
    """A guard or an event of the tables, for people: "!peer_ready" is "not peer ready"."""
    text = str(name)
    return ("not " if text.startswith("!") else "") + text.lstrip("!").replace("_", " ")


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def pages(records: list[dict[str, Any]], paint: Paint) -> list[str]:
    """One line a record."""
    rows = columns(
        [
            [
                str(record.get("seq")),
                _when(record.get("wall_s")),
                str(record.get("kind")),
                str(record.get("subject")),
                str(record.get("text")),
            ]
            for record in records
        ]
    )
    return [
        "  ".join(
            [
                paint(seq, "dim"),
                when,
                paint(kind, KIND_COLOURS.get(kind.strip(), "")),
                subject,
                text,
            ]
        )
        for seq, when, kind, subject, text in rows
    ]


def _when(wall_s: Any) -> str:
    """Local time with its zone; "?" for what is no time."""
    if not isinstance(wall_s, int | float) or not 0 <= wall_s < FAR_S:
        return "?"
    return time.strftime("%Y-%m-%d %H:%M:%S%z", time.localtime(wall_s))
