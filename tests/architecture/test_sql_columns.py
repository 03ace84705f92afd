"""Adapters name the columns that they read: one that is added changes nobody's rows (PROJ-11)."""

import re
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[2]
MIGRATIONS = ROOT / "storage/postgres/schema/migrations"

_TABLE = re.compile(r"CREATE (?:UNLOGGED )?TABLE (?:IF NOT EXISTS )?(\w+)")
# Of a part of the same statement, `SELECT *` takes the columns that stand there.
_ALL_OF = re.compile(r"SELECT\s+(?:\w+\.)?\*[^;\"']*?\bFROM\s+(\w+)", re.IGNORECASE)


def tables() -> set[str]:
    """What the migrations make."""
    return {
        found
        for file in MIGRATIONS.glob("*.up.sql")
        for found in _TABLE.findall(file.read_text(encoding="utf-8"))
    }


def reading_all(texts: Iterable[str], known: set[str]) -> list[str]:
    """The tables of which a text reads whatever columns there are."""
    return [name for text in texts for name in _ALL_OF.findall(text) if name in known]


def test_adapters_name_the_columns_that_they_read() -> None:
    # PROJ-11
    known = tables()
    assert {"documents", "events", "outbox"} <= known
    files = [file for file in (ROOT / "storage").rglob("*.py") if "testing" not in file.parts]
    assert len(files) > 50
    # A migration stands on a schema that it knows wholly.
    for file in files:
        assert reading_all([file.read_text(encoding="utf-8")], known) == [], file


def test_one_that_reads_all_columns_is_found() -> None:
    known = {"documents"}
    planted = ("SELECT * FROM documents", "select d.*\n  FROM documents d WHERE key = $1")
    assert reading_all(planted, known) == ["documents", "documents"]
    assert reading_all(["SELECT * FROM found", "SELECT key FROM documents"], known) == []
