"""The page about the event store: its program runs, and it names what there is."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import actors.persistence
from tests.patience import PATIENCE_S

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "explain" / "event_store.md"


@pytest.mark.slow
def test_the_program_of_the_page_runs() -> None:
    # DOC-1
    (block,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", block],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "{'amount': 3}\n"


def test_the_page_names_what_there_is() -> None:
    # DOC-1: also outside of its program
    text = re.sub(r"```.*?```", "", PAGE.read_text(), flags=re.DOTALL)
    named = set(re.findall(r"`([A-Z][A-Za-z]+)(?!\w)", text))
    elsewhere = {
        "Database",
        "GatherSettings",
        "MemoryEventStore",
        "OR",
        "PostgresEventStore",
        "PostgresProjections",
        "ReadModelLost",
        "RedisClient",
        "ScanningSearch",
        "StatementRefused",
    }
    assert len(named) > 10
    assert {name for name in named - elsewhere if not hasattr(actors.persistence, name)} == set()
