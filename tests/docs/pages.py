"""Runs the Python of a page: `python -m tests.docs.pages docs/how_to/choose-intensity.md`.

Every fenced block that begins with three backticks and `python` runs, in the order of the page and
in one namespace, as if the page were one program. A block headed `python no-run` is only compiled:
for what needs a server of the reader's own. A traceback names the page and its line.
"""

from __future__ import annotations

import ast
import gc
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from types import ModuleType

ROOT = Path(__file__).parents[2]
NOT_RUN = "no-run"
_BLOCK = re.compile(r"^( *)```python(?: ([^\n]*))?\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block of Python: its text, the line it begins at, and whether it runs."""

    source: str
    line: int
    runs: bool


def blocks(text: str) -> list[Block]:
    """Call this to get the Python of a page; ValueError for a word behind `python` we don't know.

    A misspelt `no-run` must not run a block, nor be taken for one that has passed.
    """
    found = []
    for match in _BLOCK.finditer(text):
        line = text.count("\n", 0, match.start(3)) + 1
        if match[2] not in (None, NOT_RUN):
            raise ValueError(f"line {line - 1}: a block is `python` or `python {NOT_RUN}`")
        found.append(Block(dedent(match[3]), line, match[2] is None))
    return found


def programs(text: str, *, to_run: bool = False) -> list[str]:
    """Call this for the programs of a page as files, each line where the page has it.

    A page is one, unless its blocks define something twice: then each of them is complete, or goes
    on with the one before when it is not run. What is not run is left out of those `to_run`.
    """
    found = blocks(text)
    names = [name for block in found for name in _defined(block)]
    are_many = len(names) > len(set(names))
    parts: list[list[Block]] = []
    for block in found:
        if not parts or (are_many and block.runs):
            parts.append([])
        parts[-1].append(block)
    return [_joined([one for one in part if one.runs or not to_run]) for part in parts]


def _defined(block: Block) -> set[str]:
    kinds = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    return {node.name for node in ast.parse(block.source).body if isinstance(node, kinds)}


def _joined(part: Sequence[Block]) -> str:
    text = ""
    for block in part:
        text += "\n" * (block.line - 1 - text.count("\n")) + block.source
    return text


def run(page: Path) -> None:
    """Call this in a process of its own: what the blocks define is its main module."""
    program = ModuleType("__main__")
    sys.modules["__main__"] = program
    text = page.read_text()
    if "storage.testing" in text:
        # hypothesis, which comes with it, asks who refers to a generator; of what a fork found
        # there already it is not told (`tests.processes.server`).
        gc.unfreeze()
    for block in blocks(text):
        code = compile("\n" * (block.line - 1) + block.source, str(page), "exec")
        if block.runs:
            exec(code, vars(program))  # noqa: S102 - our own pages, and what they are for


if __name__ == "__main__":
    run(Path(sys.argv[1]))
