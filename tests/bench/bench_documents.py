"""The search of the documents: each of the questions of its test, one after the other.

    make bench ONLY=documents

Told is the processor time of the slowest question of all; the library is read before.
"""

from __future__ import annotations

import time

from tests.bench.rows import RUNS_MIN, Row, row
from tests.docs.pages import ROOT
from tests.web.documentation.questions import QUESTIONS
from web.documentation import maybe_documents


def search() -> list[Row]:
    """Ask every question; the slowest of each run."""
    documents = maybe_documents(ROOT / "docs")
    assert documents is not None
    library = documents.read()
    slowest: list[float] = []
    for _ in range(RUNS_MIN):
        took: list[float] = []
        for question, _ in QUESTIONS:
            began = time.process_time()
            library.search(question)
            took.append((time.process_time() - began) * 1e3)
        slowest.append(max(took))
    name = f"search the documents, the slowest of {len(QUESTIONS)} questions"
    return [row(name, "ms", slowest, target="DOC-6: 20 ms", is_lower_better=True)]


benchmarks = [search]
