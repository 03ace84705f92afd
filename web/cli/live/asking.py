"""How a command asks the site that runs on a state folder; without one it ends with 5."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import cast

from web.observability.operating.control.asking import ask
from web.observability.operating.control.words import Question
from web.settings import read_settings

Row = dict[str, object]


def folder_of(environment: Mapping[str, str]) -> Path:
    """Call this for the state folder of the settings; raises `BadSettings`."""
    # Of a site whose other settings are not here: the folder is all that a command needs.
    given = {name: environment[name] for name in ("STATE_DIR",) if name in environment}
    return read_settings(given).state_dir


async def ask_site(
    environment: Mapping[str, str],
    name: str,
    words: Mapping[str, object],
    take: Callable[[Row], Awaitable[None]],
    while_silent: Callable[[], None] = lambda: None,
) -> None:
    """Call this to ask; `take` gets each row as it comes. Raises `CommandFailed`.

    `while_silent` is called about once a second while no row comes; what it raises ends it.
    """

    async def take_row(row: object) -> None:
        await take(cast("Row", row))

    await ask(folder_of(environment), Question(name, dict(words)), take_row, while_silent)


async def rows_of(
    environment: Mapping[str, str], name: str, words: Mapping[str, object] | None = None
) -> list[Row]:
    """Call this for the whole of a short answer; raises `CommandFailed`."""
    found: list[Row] = []

    async def keep(row: Row) -> None:
        found.append(row)

    await ask_site(environment, name, words or {}, keep)
    return found
