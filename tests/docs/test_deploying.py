"""What is given for deploying: files are read as who uses them reads them, and parts are told."""

from __future__ import annotations

import ast
import configparser
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import ROOT
from tests.patience import PATIENCE_S
from web.settings import Settings, read_settings
from web.views.fetched.browser_runtime import FILE_NAME

PAGE = (ROOT / "docs" / "how_to" / "deploy.md").read_text()


def _block(kind: str) -> str:
    (found,) = re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return str(found)


def _unit() -> configparser.ConfigParser:
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]  # names as systemd has them
    unit.read_string(_block("ini"))
    return unit


def test_the_unit_stops_the_site_as_it_wants_to_be_stopped() -> None:
    # DOC-2
    service = _unit()["Service"]
    assert int(service["TimeoutStopSec"]) == Settings().drain_budget_s + 2
    assert service["KillMode"] == "mixed"
    name, _, folder = service["Environment"].partition("=")
    assert read_settings({name: folder}).state_dir == Path(folder)
    assert Path(folder).name == service["StateDirectory"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not here")
def test_systemd_has_nothing_to_say_of_the_unit(tmp_path: Path) -> None:
    # DOC-2: of what is not on this machine, a program and a user, it would
    text = _block("ini").replace("/opt/greenroom/bin/greenroom", "/bin/true")
    unit = tmp_path / "greenroom-of-the-page.service"
    unit.write_text(text.replace("User=greenroom", "User=root"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)],
        capture_output=True, text=True, check=False, timeout=PATIENCE_S,
    )  # fmt: skip
    assert (done.returncode, [line for line in done.stderr.splitlines() if unit.name in line]) == (
        0, [],
    )  # fmt: skip


def test_the_image_has_settings_that_there_are_and_files_that_it_copies() -> None:
    # DOC-2
    image = _block("dockerfile")
    (line,) = re.findall(r"^ENV (.*)$", image, re.MULTILINE)
    given = dict(one.split("=") for one in line.split())
    script = Path(given.pop("DATASTAR_JS"))  # there in the image alone
    secret = {"PUBLIC_ORIGIN": "https://site.example", "SESSION_SECRET": "s" * 88}
    read_settings({**given, **secret})
    for path in re.findall(r"/src/(\S+)", image):
        assert (ROOT / path).exists(), path
    (module, folder) = re.findall(r"python -m (\S+) (\S+)", image)[0]
    assert (ROOT / f"{module.replace('.', '/')}.py").exists()
    assert script == Path(folder, FILE_NAME)


def _components(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id="Component"), args=[ast.Constant(value=str(name)), *_]):
                yield name


def test_every_part_that_can_be_asked_how_it_is_has_a_row() -> None:
    # DOC-1
    page = (ROOT / "docs" / "reference" / "health.md").read_text()
    told = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    texts = (file.read_text() for file in (ROOT / "web").rglob("*.py"))
    trees = (ast.parse(text) for text in texts if "Component(" in text)
    there = {name for tree in trees for name in _components(tree)}
    assert {"event_store", "outside", "search", "link"} <= there
    assert there <= told
