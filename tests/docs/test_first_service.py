"""The pages of the first service, walked: blocks are pasted, commands typed, in their order."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import ROOT
from tests.patience import PATIENCE_S
from tests.processes.forked import run
from tests.web.cli.making.programs import within
from web.cli.commands import main

PAGES = [ROOT / "docs" / "start" / f"{one}.md" for one in ("first_service", "first_service_saga")]
BLOCK = re.compile(r"^```(py|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Each `make` of the page, as somebody types them; else only `make check`, at the end of a sitting.
WHOLE = os.environ.get("WALK") == "whole"


class Walker:
    """Somebody who does what a page says, in an empty folder."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capsys = folder, capsys
        self.tested = 0

    def paste(self, text: str) -> None:
        first, _, rest = text.partition("\n")
        file = self.folder / first.removeprefix("# ")
        assert file.suffix == ".py", f"no file is named by {first!r}"
        assert file.parent.is_dir()
        file.write_text(rest)

    def type(self, text: str) -> None:
        """Each line behind a prompt; what stands below it must be what it says."""
        for typed in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
            line, _, told = typed.partition("\n")
            if WHOLE or line != "make test":
                self._compare(line, told, self._said(line))

    def _said(self, line: str) -> str:
        word, *words = line.split()
        if word == "cd":
            self.folder /= words[0]
            return ""
        if word == "greenroom":
            with within(self.folder):
                assert main(words) == 0, line
            return "".join(self._capsys.readouterr())
        if word == "make":
            # What its Makefile says; the environment is the one of the tests.
            if words == ["check"]:
                self._lint()
            return self._test()
        subprocess.run(line, shell=True, cwd=self.folder, check=True, timeout=PATIENCE_S)  # noqa: S602
        return ""

    def _test(self) -> str:
        self.tested += 1
        done = run(
            "tests.web.cli.making.tested",
            ["-q", "-p", "no:cacheprovider"],
            environment={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
            cwd=self.folder,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def _lint(self) -> None:
        for words in ("format --check --diff", "check"):
            subprocess.run(
                [sys.executable, "-m", "ruff", *words.split(), "--no-cache", "."],
                cwd=self.folder, check=True, timeout=PATIENCE_S,
            )  # fmt: skip

    def _compare(self, line: str, told: str, said: str) -> None:
        at = 0
        for piece in re.split(r"\s*\.\.\.\s*", told.strip()):
            found = said.find(piece, at)
            assert found >= 0, f"{line!r} says\n{said}\nand not {piece!r}"
            at = found + len(piece)


@pytest.mark.slow
def test_whoever_does_what_the_page_says_has_a_service(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # CLI-2: an aggregate in one sitting, a saga in another
    walker, pasted = Walker(tmp_path, capsys), 0
    for kind, text in BLOCK.findall("".join(page.read_text() for page in PAGES)):
        if kind == "py":
            walker.paste(text)
            pasted += 1
        else:
            walker.type(text)
    assert (pasted, walker.tested) == (10, 6 if WHOLE else 2)
    assert walker.folder == tmp_path / "shop"
