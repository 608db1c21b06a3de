# SPDX-License-Identifier: GPL-2.0-or-later
"""`standpipe status`: how this node is, alarms on top; once, as JSON, or drawn every second."""

import argparse
import json
import os
import sys
import time
from typing import Any

from agent.cli_groups import groups, maintenance, rows
from agent.cli_paint import COLOUR_OF, Paint, amount, columns, paint_for_stdout, span, write_lines
from agent.cli_socket import Unanswered, ask, cleaned, complain, show_json

EXIT = {"up": 0, "down": 1, "degraded": 2, "unknown": 2}
WITHIN_S = 5.0
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
        write_lines(_picture_for(options, detail, paint), paint)
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
                    lines = _picture_for(options, detail, paint, history)
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
    for resource in rows(detail, "resources"):
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


def _picture_for(
    options: argparse.Namespace,
    detail: dict[str, Any],
    paint: Paint,
    history: History | None = None,
) -> list[str]:
    clean, every, verbose = cleaned(detail), options.all, options.verbose
    return picture(clean, paint, every=every, verbose=verbose, history=history)


def picture(
    detail: dict[str, Any],
    paint: Paint,
    *,
    every: bool = False,
    verbose: bool = False,
    history: History | None = None,
) -> list[str]:
    """The status as lines. `history`: draws how each resource went; `verbose`: every proof."""
    blocks = [
        _head(detail, paint),
        _alarms(detail, paint),
        groups(detail, paint, verbose),
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
    if detail.get("witness"):
        parts.append("a witness: it votes, and serves nothing")
    elif detail.get("watch_only"):
        hint = "only watching: `standpipe init` writes a configuration to start from"
        parts.append("no group is served here" if detail.get("node") else hint)
    parts.append(maintenance(detail, paint))
    return ["  ".join(part for part in parts if part)]


def _alarms(detail: dict[str, Any], paint: Paint) -> list[str]:
    def rank(alarm: dict[str, Any]) -> int:
        severity = alarm.get("severity")
        return SEVERITIES.index(severity) if severity in SEVERITIES else len(SEVERITIES)

    alarms = sorted(rows(detail, "alarms"), key=rank)
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


def _others(detail: dict[str, Any], paint: Paint) -> list[str]:
    """Peers, devices, geo entries: one line each."""
    table: list[list[str]] = []
    dots: list[str] = []
    for peer in rows(detail, "peers"):
        alive = {"alive": "up", "silent": "down"}.get(str(peer.get("state")), "degraded")
        dots.append("unknown" if peer.get("state") == "unknown" else alive)
        text = f"{peer.get('state')}  {peer.get('site')}"
        text += "  a witness: it only votes" if peer.get("witness") else ""
        table.append(["peer", str(peer.get("name")), text])
    for device in rows(detail, "devices"):
        dots.append(str(device.get("health")))
        text = str(device.get("detail") or device.get("health"))
        table.append(["device", str(device.get("name")), text])
    for geo in rows(detail, "geos"):
        dots.append("up" if geo.get("site") else "unknown")
        site = geo.get("site") or "nowhere known"
        text = f"{paint.symbol('arrow')} {site}  epoch {geo.get('epoch')}"
        text += f", arbiter {geo.get('arbiter')}"
        table.append(["geo", str(geo.get("name")), text])
    return [
        f"{paint.health(dot)} {'  '.join(row)}"
        for dot, row in zip(dots, columns(table), strict=True)
    ]


def _resources(detail: dict[str, Any], paint: Paint, every: bool, history: History) -> list[str]:
    def fullness(resource: dict[str, Any]) -> float:
        pct = resource.get("pct")
        return -float(pct) if isinstance(pct, int | float) else 1.0

    found = rows(detail, "resources")
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
