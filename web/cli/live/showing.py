"""`greenroom tree` and `breakers`: the site that runs, as it is now."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping

import msgspec

from web.cli.answering import Code, CommandFailed, Teller
from web.cli.live.asking import Row, ask_site, rows_of
from web.cli.opening import changing, open_store
from web.observability import tell

# From the top of the terminal, and nothing left below.
_CLEAR = "\x1b[H\x1b[J"


async def command(
    parsed: argparse.Namespace, environment: Mapping[str, str], teller: Teller
) -> int:
    """Call this with what was parsed; returns the exit code."""
    if parsed.command == "tree":
        return await _tree(parsed, environment, teller)
    if parsed.action == "list":
        rows = await rows_of(environment, "breakers")
        teller.rows(rows, "this site calls nothing outside")
        return Code.DONE
    return await _reset(parsed, environment, teller)


async def _tree(parsed: argparse.Namespace, environment: Mapping[str, str], teller: Teller) -> int:
    words = {"path": parsed.path or ""}
    if parsed.watch:
        return await _watch(words, environment, is_json=parsed.json)
    rows = await rows_of(environment, "tree", words)
    if parsed.json:
        teller.rows(rows, "")
    else:
        teller.text("\n".join(tree_lines(rows)))
    return Code.DONE


async def _watch(
    words: Mapping[str, object], environment: Mapping[str, str], *, is_json: bool
) -> int:
    known: dict[str, Row] = {}
    is_screen = not is_json and sys.stdout is not None and sys.stdout.isatty()

    async def show(row: Row) -> None:
        if is_json:
            tell(msgspec.json.encode(row).decode())
            return
        known.pop(str(row["path"]), None)
        if row["status"] != "gone":
            known[str(row["path"])] = row
        if is_screen:
            sys.stdout.write(_CLEAR)
            tell("\n".join(tree_lines(sorted(known.values(), key=lambda one: str(one["path"])))))
        else:
            tell(_line(row, 0))

    await ask_site(environment, "tree", {**words, "watch": True}, show)
    return Code.DONE


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
