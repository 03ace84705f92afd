"""The JavaScript client, tried by Node's own runner: without a server, in a time of its own."""

from __future__ import annotations

import gzip
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.patience import PATIENCE_S

_HERE = Path(__file__).parent
# Installed by `make conformance`; what is not there is told, never passed.
_PACKAGES = Path(__file__).parents[3] / "build" / "node"
_CLIENT = Path(__file__).parents[3] / "web" / "client"


def test_the_client_keeps_its_promises() -> None:
    # WEB-50, WEB-51, WEB-52, WEB-40, WEB-41, WEB-42
    node = shutil.which("node")
    if node is None:
        pytest.skip("NODE IS MISSING: the JavaScript client was not tried")
    told = subprocess.run(
        [node, "--test", "--test-reporter=tap", str(_HERE / "greenroom.test.mjs")],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert told.returncode == 0, told.stdout + told.stderr
    passed = re.search(r"^# pass (\d+)$", told.stdout, re.MULTILINE)
    assert passed
    assert int(passed.group(1)) == (_HERE / "greenroom.test.mjs").read_text().count("\ntest(")


def test_it_is_small_and_stands_alone() -> None:
    # WEB-50
    text = (_CLIENT / "greenroom.js").read_bytes()
    assert len(gzip.compress(text)) <= 8 * 1024
    assert not re.search(rb"^\s*import\b|\brequire\(|\bimport\(", text, re.MULTILINE)
    declared = (_CLIENT / "greenroom.d.ts").read_text()
    exported = re.findall(r"^export class (\w+)", text.decode(), re.MULTILINE)
    assert exported == ["GreenroomError", "GreenroomClient"]
    assert all(f"export class {name}" in declared for name in exported)


def _try_with_packages(tmp_path: Path, *command: str) -> None:
    """Run something where the packages of npm are found, beside the client and its tests."""
    if not (_PACKAGES / "node_modules").is_dir():
        pytest.skip("REACT AND TYPESCRIPT ARE MISSING: `make conformance` installs them")
    (tmp_path / "node_modules").symlink_to(_PACKAGES / "node_modules")
    (tmp_path / "package.json").write_text('{"type": "module"}')
    for file in (*_CLIENT.glob("*.js"), *_CLIENT.glob("*.ts"), _HERE / "hooks.test.mjs",
                 _HERE / "use.ts"):  # fmt: skip
        shutil.copy(file, tmp_path)
    told = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert told.returncode == 0, told.stdout + told.stderr


def test_the_hooks_work_in_react(tmp_path: Path) -> None:
    # WEB-53
    _try_with_packages(tmp_path, "node", "--test", "hooks.test.mjs")


def test_the_declarations_pass_the_type_checker(tmp_path: Path) -> None:
    # WEB-50, WEB-53
    options = ("--strict", "--noEmit", "--module", "nodenext", "--target", "es2022")
    _try_with_packages(tmp_path, "node_modules/.bin/tsc", *options, "use.ts")
