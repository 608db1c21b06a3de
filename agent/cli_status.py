# SPDX-License-Identifier: GPL-2.0-or-later
"""`standpipe status`: how this node is, alarms on top; once, as JSON, or drawn every second."""

import argparse
import json
import os
import sys
import time
from typing import Any

from agent.cli_paint import COLOUR_OF, Paint, amount, columns, paint_for_stdout, span, write_lines
from agent.cli_socket import Unanswered, ask, cleaned, complain, show_json

EXIT = {"up": 0, "down": 1, "degraded": 2, "unknown": 2}
WITHIN_S = 5.0
ADDRESSES_SHOWN = 3
WELL_SHOWN = 12
BAR_COLUMNS = 20
SPARK_COLUMNS = 24
SEVERITIES = ("critical", "major", "minor", "warning")

History = dict[str, list[float]]
"""Resource -> its shares, newest last."""


def status(options: argparse.Namespace) -> int:
    """The exit status is the node's health."""
    if options.watch:
        return _watch(options)
    try:
        answer = ask(options, "status", {}, within_s=WITHIN_S)
    except Unanswered as error:
        if options.json:
            show_json({"version": 1, "health": "unknown", "error": str(error)})
        return complain(error)
    if not answer["ok"]:
        sys.stderr.write(f"standpipe: {answer['text']}\n")
        return 1
    detail = answer["detail"]
    if options.json:
        show_json(detail)
    else:
        paint = paint_for_stdout()
        write_lines(picture(cleaned(detail), paint, every=options.all), paint)
    return EXIT.get(str(detail.get("health")), 1)


def _watch(options: argparse.Namespace) -> int:
    """Until Ctrl-C. The exit status is that of the last look."""
    drawn = sys.stdout.isatty() and not options.json
    history: History = {}
    health = ""
    if drawn:
        sys.stdout.write("\x1b[?1049h\x1b[?25l")  # the other screen, no cursor
    lines: list[str] = []
    try:
        while True:
            paint = paint_for_stdout()
            try:
                answer = ask(options, "status", {}, within_s=WITHIN_S)
                detail, trouble = answer["detail"], "" if answer["ok"] else answer["text"]
            except Unanswered as error:
                detail, trouble = {}, str(error)
            health = "down" if trouble else str(detail.get("health"))
            if options.json:
                if trouble:
                    detail = {"version": 1, "health": "unknown", "error": trouble}
                sys.stdout.write(json.dumps(detail) + "\n")
            else:
                if not trouble:
                    _remember(history, detail)
                    lines = picture(cleaned(detail), paint, every=options.all, history=history)
                _draw(lines, trouble, paint, drawn)
            sys.stdout.flush()
            time.sleep(1)
    except KeyboardInterrupt:
        return EXIT.get(health, 1)
    finally:
        if drawn:
            sys.stdout.write("\x1b[?25h\x1b[?1049l")
            write_lines(lines, paint_for_stdout())
            sys.stdout.flush()


def _remember(history: History, detail: dict[str, Any]) -> None:
    for resource in _rows(detail, "resources"):
        pct = resource.get("pct")
        if isinstance(pct, int | float):
            past = history.setdefault(str(resource.get("resource")), [])
            past.append(float(pct))
            del past[:-SPARK_COLUMNS]


def _draw(lines: list[str], trouble: str, paint: Paint, drawn: bool) -> None:
    head = [f"{time.strftime('%H:%M:%S')}  every second, Ctrl-C ends"]
    if trouble:
        head.append(paint(trouble, "red") + (" Last seen:" if lines else ""))
    page = [*head, *lines]
    if not drawn:
        write_lines([*page, ""], paint)
        return
    rows = os.get_terminal_size(sys.stdout.fileno()).lines
    if len(page) > rows - 1:
        page = [*page[: rows - 2], f"{len(page) - rows + 2} more lines: make the window taller"]
    sys.stdout.write("\x1b[H")
    write_lines([line + "\x1b[K" for line in map(paint.fit, page)], Paint(False, True, 0))
    sys.stdout.write("\x1b[J")


def _rows(detail: dict[str, Any], key: str) -> list[dict[str, Any]]:
    found = detail.get(key)
    return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []


def picture(
    detail: dict[str, Any], paint: Paint, *, every: bool = False, history: History | None = None
) -> list[str]:
    """The status as lines. `history`: draws how each resource went."""
    blocks = [
        _head(detail, paint),
        _alarms(detail, paint),
        _groups(detail, paint),
        _others(detail, paint),
        _resources(detail, paint, every, history or {}),
        _foot(detail, paint),
    ]
    lines: list[str] = []
    for block in blocks:
        lines += ([""] if lines and block else []) + block
    return lines


def _head(detail: dict[str, Any], paint: Paint) -> list[str]:
    health = str(detail.get("health"))
    where = " of ".join(str(detail[key]) for key in ("site", "cluster") if detail.get(key))
    parts = [
        paint(str(detail.get("node")), "bold"),
        where,
        paint(health.upper(), COLOUR_OF.get(health, "violet")),
        f"agent up {span(detail.get('up_s'))}",
    ]
    if detail.get("watch_only"):
        hint = "only watching: `standpipe init` writes a configuration to start from"
        parts.append("no group is served here" if detail.get("node") else hint)
    maintenance = detail.get("maintenance")
    if isinstance(maintenance, dict):
        left = span(maintenance.get("until_s"))
        until = f"for {left} more" if left else "until `standpipe maintenance off`"
        parts.append(paint(f"MAINTENANCE {until}, by {maintenance.get('by')}", "yellow"))
    return ["  ".join(part for part in parts if part)]


def _alarms(detail: dict[str, Any], paint: Paint) -> list[str]:
    def rank(alarm: dict[str, Any]) -> int:
        severity = alarm.get("severity")
        return SEVERITIES.index(severity) if severity in SEVERITIES else len(SEVERITIES)

    alarms = sorted(_rows(detail, "alarms"), key=rank)
    cells = columns(
        [
            [
                str(alarm.get("severity")).upper(),
                span(alarm.get("since_s")),
                str(alarm.get("subject")),
                f"{alarm.get('text')}  ({alarm.get('kind')})",
            ]
            for alarm in alarms
        ]
    )
    return [
        "  ".join([paint(row[0], COLOUR_OF.get(str(alarm.get("severity")), "violet")), *row[1:]])
        for row, alarm in zip(cells, alarms, strict=True)
    ]


def _groups(detail: dict[str, Any], paint: Paint) -> list[str]:
    groups = _rows(detail, "groups")
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
            for group in groups
        ]
    )
    lines = [paint("  ".join(table[0]), "dim")] if groups else []
    for row, group in zip(table[1:], groups, strict=True):
        name, role, *rest = row
        lines.append("  ".join([paint(name, "bold"), _role(role, group, paint), *rest]))
        lines.append("  " + _nodes(group, detail, paint))
        lines += [line for service in _rows(group, "services") for line in _service(service, paint)]
    return lines


def _role(padded: str, group: dict[str, Any], paint: Paint) -> str:
    if not group.get("owner") or group.get("role") == "quarantine":
        return paint(padded, "red")
    if group.get("role") == "active":
        return paint(padded, "green")
    return padded if group.get("ready") else paint(padded, "yellow")


def _addresses(group: dict[str, Any]) -> str:
    addresses = group.get("addresses")
    texts = [str(address) for address in addresses] if isinstance(addresses, list) else []
    more = len(texts) - ADDRESSES_SHOWN
    return " ".join(texts[:ADDRESSES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _nodes(group: dict[str, Any], detail: dict[str, Any], paint: Paint) -> str:
    """Who has it and who could: every node of the group that is known here."""
    owner = group.get("owner")
    own_state = str(group.get("state") or "unknown")
    chips = [(str(detail.get("node")), own_state, bool(group.get("ready")), True)]
    for peer in _rows(detail, "peers"):
        there = peer.get("groups")
        word = there.get(group.get("name")) if isinstance(there, dict) else None
        if isinstance(word, dict):
            alive = peer.get("state") in ("alive", "held")
            state = str(word.get("state") if alive else peer.get("state"))
            chips.append((str(peer.get("name")), state, bool(word.get("ready")), alive))
    drawn = []
    for name, state, ready, alive in chips:
        health = "up" if name == owner else "down" if not alive else "unknown"
        dot = paint.health(health) if health != "unknown" else ("○" if paint.fancy else "o")
        note = state if name == owner or not alive else f"{state}, {'' if ready else 'not '}ready"
        drawn.append(f"{dot} {name} {paint(note, '' if ready or name == owner else 'yellow')}")
    plain = group.get("plain_peers")
    if owner and isinstance(plain, list) and owner in plain:
        drawn.append(f"{paint.health('up')} plain peer {owner} has it")
    why = f"   {paint(str(group['why']), 'dim')}" if group.get("why") else ""
    return "   ".join(drawn) + why


def _service(service: dict[str, Any], paint: Paint) -> list[str]:
    health = str(service.get("health"))
    left = service.get("restarts_left")
    line = f"  {paint.health(health)} {service.get('name')} {health}"
    state = service.get("state")
    line += f" ({state})" if state and state != "well" else ""
    line += f", {left} restart{'' if left == 1 else 's'} left" if isinstance(left, int) else ""
    checks = _rows(service, "checks")
    line += "".join(f"  {paint.health(str(c.get('health')))} {c.get('name')}" for c in checks)
    bad = [check for check in checks if check.get("health") != "up" and check.get("detail")]
    return [line] + [
        f"      {check.get('name')}: {check.get('detail')}"
        + (f"  ({span(check.get('age_s'))} ago)" if span(check.get("age_s")) else "")
        for check in bad
    ]


def _others(detail: dict[str, Any], paint: Paint) -> list[str]:
    """Peers, devices, geo entries: one line each."""
    rows: list[list[str]] = []
    dots: list[str] = []
    for peer in _rows(detail, "peers"):
        alive = {"alive": "up", "silent": "down"}.get(str(peer.get("state")), "degraded")
        dots.append("unknown" if peer.get("state") == "unknown" else alive)
        rows.append(["peer", str(peer.get("name")), f"{peer.get('state')}  {peer.get('site')}"])
    for device in _rows(detail, "devices"):
        dots.append(str(device.get("health")))
        text = str(device.get("detail") or device.get("health"))
        rows.append(["device", str(device.get("name")), text])
    for geo in _rows(detail, "geos"):
        dots.append("up" if geo.get("site") else "unknown")
        site = geo.get("site") or "nowhere known"
        text = f"{paint.symbol('arrow')} {site}  epoch {geo.get('epoch')}"
        text += f", arbiter {geo.get('arbiter')}"
        rows.append(["geo", str(geo.get("name")), text])
    return [
        f"{paint.health(dot)} {'  '.join(row)}"
        for dot, row in zip(dots, columns(rows), strict=True)
    ]


def _resources(detail: dict[str, Any], paint: Paint, every: bool, history: History) -> list[str]:
    def fullness(resource: dict[str, Any]) -> float:
        pct = resource.get("pct")
        return -float(pct) if isinstance(pct, int | float) else 1.0

    found = _rows(detail, "resources")
    bad = [resource for resource in found if resource.get("health") != "up"]
    well = sorted((r for r in found if r.get("health") == "up"), key=fullness)
    shown = bad + (well if every else well[:WELL_SHOWN])
    cells = columns([[str(r.get("resource")), *_value(r), _eta(r)] for r in shown])
    lines = []
    for resource, row in zip(shown, cells, strict=True):
        colour = COLOUR_OF.get(str(resource.get("health")), "violet")
        pct = resource.get("pct")
        bar = paint.bar(float(pct) if isinstance(pct, int | float) else None, BAR_COLUMNS, colour)
        past = paint.spark(history.get(str(resource.get("resource")), []))
        past = paint(past.rjust(SPARK_COLUMNS), "dim") if past else ""
        lines.append("  ".join(part for part in (row[0], bar, past, *row[1:]) if part))
    hidden = len(found) - len(shown)
    return lines + ([f"{hidden} more are well: --all shows them"] if hidden else [])


def _value(resource: dict[str, Any]) -> list[str]:
    unit = str(resource.get("unit"))
    pct, limit = resource.get("pct"), resource.get("limit")
    share = f"{pct:.0f}%" if isinstance(pct, int | float) else ""
    text = amount(resource.get("value"), unit)
    if isinstance(limit, int | float) and unit != "pct":
        text += f" of {amount(limit, unit)}"
    return [share.rjust(4), text]


def _eta(resource: dict[str, Any]) -> str:
    eta = span(resource.get("eta_s"))
    if not eta:
        return ""
    low, high = span(resource.get("eta_low_s")), span(resource.get("eta_high_s"))
    bounds = f" ({low or '?'} to {high or 'never'})" if low or high else ""
    return f"exhausted in {eta}{bounds}" if resource.get("eta_s") else "exhausted"


def _foot(detail: dict[str, Any], paint: Paint) -> list[str]:
    keeper, store, config = (
        part if isinstance(part := detail.get(key), dict) else {}
        for key in ("keeper", "store", "config")
    )
    beat = keeper.get("beat_age_ms")
    words = [f"keeper {keeper.get('state')}"] if keeper else []
    if words and isinstance(beat, int | float):
        words[0] += f", heard {beat:.0f} ms ago"
    counters = keeper.get("counters")
    bad = sum(counters.values()) if isinstance(counters, dict) else 0
    if bad:
        words.append(f"{bad} bad packets")
    if store:
        words.append(
            "store ok" if store.get("ok") else paint(f"STORE: {store.get('detail')}", "red")
        )
    senses = detail.get("senses")
    for interface, sense in senses.items() if isinstance(senses, dict) else ():
        if sense in ("deaf", "unanswered"):
            words.append(paint(f"{interface} {sense}", "red"))
    if config.get("digest"):
        words.append(f"config {str(config['digest'])[:12]}")
    lines = [paint("  ".join(words), "dim")] if words else []
    problems = config.get("problems")
    if isinstance(problems, list) and problems:
        lines.append(
            paint("the configuration on disk is refused; the one before it runs:", "yellow")
        )
        lines += [f"  {problem}" for problem in problems]
    return lines
