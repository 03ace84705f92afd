"""`greenroom tree`, `top` and `breakers`: the site that runs, as it is now."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence

from actors.runtime.telling.log import one_line
from web.cli.answering import Teller
from web.cli.live.asking import Row, ask_site, rows_of
from web.cli.opening import changing, open_store
from web.observability import Code, CommandFailed

# From the top of the terminal, and nothing left below.
_CLEAR = "\x1b[H\x1b[J"
COLUMNS, LINES = 80, 24


async def command(
    parsed: argparse.Namespace, environment: Mapping[str, str], teller: Teller
) -> int:
    """Call this with what was parsed; returns the exit code."""
    if parsed.command == "tree":
        return await _tree(parsed, environment, teller)
    if parsed.command == "top":
        return await _top(environment, teller, is_once=parsed.once)
    if parsed.action == "list":
        rows = await rows_of(environment, "breakers")
        teller.rows(rows, "this site calls nothing outside")
        return Code.DONE
    return await _reset(parsed, environment, teller)


async def _tree(parsed: argparse.Namespace, environment: Mapping[str, str], teller: Teller) -> int:
    words = {"path": parsed.path or ""}
    if parsed.watch:
        return await _watch(words, environment, teller)
    rows = await rows_of(environment, "tree", words)
    if parsed.json:
        teller.rows(rows, "")
    else:
        teller.text("\n".join(tree_lines(rows)))
    return Code.DONE


async def _watch(
    words: Mapping[str, object], environment: Mapping[str, str], teller: Teller
) -> int:
    known: dict[str, Row] = {}
    is_screen = _is_screen(teller)

    async def show(row: Row) -> None:
        known.pop(str(row["path"]), None)
        if row["status"] != "gone":
            known[str(row["path"])] = row
        if is_screen:
            sys.stdout.write(_CLEAR)
            rows = sorted(known.values(), key=lambda one: str(one["path"]))
            teller.at_once(row, _on_screen(tree_lines(rows)))
        else:
            teller.at_once(row, [_line(row, 0)])

    await ask_site(environment, "tree", {**words, "watch": True}, show, teller.check_reader)
    return Code.DONE


async def _top(environment: Mapping[str, str], teller: Teller, *, is_once: bool) -> int:
    is_screen = _is_screen(teller)

    async def show(row: Row) -> None:
        lines = top_lines(row)
        if is_screen and not is_once:
            sys.stdout.write(_CLEAR)
            lines = _on_screen(lines)
        teller.at_once(row, lines)

    # Whoever reads a file of it wants one look, unless they take rows.
    once = is_once or not (teller.is_json or is_screen)
    await ask_site(environment, "top", {"once": once}, show, teller.check_reader)
    return Code.DONE


def _is_screen(teller: Teller) -> bool:
    return not teller.is_json and sys.stdout is not None and sys.stdout.isatty()


def _on_screen(lines: Sequence[str]) -> list[str]:
    size = shutil.get_terminal_size((COLUMNS, LINES))
    return fitted(lines, size.columns, size.lines)


def fitted(lines: Sequence[str], columns: int, rows: int) -> list[str]:
    """Call this for what a screen holds of them: one that is too long would push the first out.

    The last line stays free, where the cursor stands.
    """
    room = max(2, rows - 1)
    if len(lines) > room:
        left = len(lines) - room + 1
        lines = [*lines[: room - 1], f"... and {left} lines more; --once and --json have them"]
    return [line[: max(1, columns)] for line in lines]


async def _reset(parsed: argparse.Namespace, environment: Mapping[str, str], teller: Teller) -> int:
    # Before anybody is asked: nobody confirms what cannot be done.
    names = [str(row["name"]) for row in await rows_of(environment, "breakers")]
    if parsed.name not in names:
        there = f"There is {', '.join(names)}" if names else "This site calls nothing outside"
        raise CommandFailed(Code.UNKNOWN, f"nothing is called {parsed.name!r:.80}", there)
    what = f"have {parsed.name} called again at once"
    async with (
        open_store(environment) as database,
        changing(parsed, teller, database, what, parsed.name),
    ):
        (row,) = await rows_of(environment, "breakers.reset", {"name": parsed.name})
    teller.one(row)
    return Code.DONE


def tree_lines(rows: Iterable[Row]) -> list[str]:
    """Call this for the tree as a person reads it: parents first, children set in."""
    found, depth = [], dict[str, int]()
    for row in rows:
        level = depth.get(str(row["parent"]), -1) + 1
        depth[str(row["path"])] = level
        found.append(_line(row, level))
    return found


def _line(row: Row, level: int) -> str:
    if row["status"] == "gone":
        return f"{row['path']}  gone"
    name = "  " * level + str(row["name"] if level else row["path"])
    told = [str(row["status"])]
    if row["strategy"]:
        told.append(str(row["strategy"]))
    if row["children"]:
        told.append(f"{row['children']} below")
    if row["queued"]:
        told.append(f"{row['queued']} waiting")
    if row["restarts"]:
        told.append(f"{row['restarts']} restarts")
    return f"{name:<34} {', '.join(told)}"


def top_lines(row: Row) -> list[str]:
    """Call this for the overview as a person reads it, within 80 columns."""

    def known(name: str, unit: str = "") -> str:
        value = row[name]
        return "not known" if value is None else f"{value:.1f}{unit}" if unit else str(value)

    lines = [
        "   ".join(one)
        for one in (
            (f"up {row['uptime_s']} s", f"actors {row['actors']}", f"streams {row['streams']}"),
            (f"messages/s {known('messages_per_s')}", f"events/s {known('events_per_s')}"),
            (f"late turns (99 of 100) {known('loop_late_ms', ' ms')}",),
            (
                f"connections {known('pool_in_use')} of {known('pool_max')}",
                f"waiting {known('pool_waiting')}",
                f"oldest transaction {known('oldest_transaction_s', ' s')}",
            ),
            (
                f"to send {known('outbox')}",
                *([f"oldest {known('outbox_oldest_s', ' s')}"] if row["outbox"] else []),
                f"dead letters {known('letters')}",
                f"spans lost {known('spans_lost')}",
            ),
        )
    ]
    nodes = row["nodes"]
    for title, found, line in (
        ("NODES", nodes["nodes"] if isinstance(nodes, dict) else [], _node_line),
        ("CALLED OUTSIDE", row["breakers"], _breaker_line),
        ("BEHIND", row["lags"], _lag_line),
        ("BUSIEST", row["busiest"], _hot_line),
        ("FULLEST", row["fullest"], _hot_line),
    ):
        if isinstance(found, list) and found:
            lines += ["", title, *map(line, found)]
    lines += _statement_lines(row["statements"])
    return [one_line(line)[:COLUMNS] for line in lines]


def _statement_lines(told: object) -> list[str]:
    if not isinstance(told, dict) or not told["found"]:
        return []
    title = "STATEMENTS of this process" if told["is_own"] else "STATEMENTS of the database"
    return ["", title] + [
        f"{one['total_s']:8.1f} s {one['calls']:>9} x  {one['text']}" for one in told["found"]
    ]


def _node_line(one: Row) -> str:
    this = " (this one)" if one["is_this"] else ""
    state = f"{one['state']:<9} {one['shards']:>4} shards  silent {one['silent_s']} s"
    return f"{str(one['name']) + this:<30} {state}  {one['link']}"


def _breaker_line(one: Row) -> str:
    left = f", left alone {one['retry_in_s']} s more" if one["state"] == "open" else ""
    return f"{one['name']:<30} {one['state']}{left}"


def _lag_line(one: Row) -> str:
    told = [f"{one['behind']} events", f"{one['seconds']:.1f} s"]
    if one["rate"] is not None:
        told.append(f"{one['rate']}/s")
    if one["left_s"] is not None:
        told.append(f"in {one['left_s']} s")
    if one["rebuilt_percent"] is not None:
        told.append(f"rebuilt {one['rebuilt_percent']} %")
    return f"{one['name']:<24} {', '.join(told)}"


def _hot_line(one: Row) -> str:
    busy = "" if one["busy_percent"] is None else f"{one['busy_percent']} %"
    return f"{busy:>8} {one['handled_per_s']:>9}/s {one['queued']:>6} waiting  {one['path']}"
