"""Commands run as a person would, in this process, on one database."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence

import asyncpg
import pytest
import trio

from storage.postgres import Database, open_database
from tests.patience import PATIENT_POOL
from web.cli.commands import main


def fetch(url: str, statement: str, *args: object) -> list[tuple[object, ...]]:
    """What a statement of another client gives."""

    async def run() -> list[tuple[object, ...]]:
        connection = await asyncpg.connect(url)
        try:
            return [tuple(row) for row in await connection.fetch(statement, *args)]
        finally:
            await connection.close()

    return asyncio.run(run())


def on(url: str, work: Callable[[Database], Awaitable[None]]) -> None:
    """Run something on an open database, as a program beside the command line."""

    async def run() -> None:
        async with open_database(url, settings=PATIENT_POOL) as database:
            await work(database)

    trio.run(run)


class Commands:
    """Runs commands on one database, and keeps what the last one said."""

    def __init__(self, url: str, capsys: pytest.CaptureFixture[str]) -> None:
        self._url, self._capsys = url, capsys
        self.out = self.err = ""

    def __call__(self, *words: str) -> int:
        code = main([*words, "--database-url", self._url])
        self.out, self.err = self._capsys.readouterr()
        assert "Traceback" not in self.err
        return code

    def json(self, *words: str) -> Sequence[dict[str, object]]:
        assert self(*words, "--json") in (0, 1), self.err
        return [json.loads(line) for line in self.out.splitlines()]

    def one(self, *words: str) -> dict[str, object]:
        (found,) = self.json(*words)
        return found
