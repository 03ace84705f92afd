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
