"""The browser runtime is checked by hash; a changed byte stops the build."""

import hashlib
import io
import zipfile
from pathlib import Path

import pytest

from web.views import browser_runtime

ROOT = Path(__file__).parents[3]


def test_one_changed_byte_is_refused() -> None:  # SEC-68
    with pytest.raises(browser_runtime.RuntimeNotFetched, match="SHA-256"):
        browser_runtime.unpack(b"not the wheel")


def test_a_wheel_with_another_script_is_refused() -> None:  # SEC-68
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("starhtml/static/js/datastar-core.js", "alert(1)")
        for name in ("LICENSE", "NOTICE"):
            archive.writestr(f"starhtml-0.7.0.dist-info/licenses/{name}", "x")
    wheel = buffer.getvalue()
    with pytest.raises(browser_runtime.RuntimeNotFetched, match="not the expected file"):
        browser_runtime.unpack(wheel, sha256=hashlib.sha256(wheel).hexdigest())


def test_a_present_runtime_is_kept_without_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = ROOT / "build" / "datastar" / browser_runtime.FILE_NAME
    assert script.is_file(), "make test fetches the runtime first: make build/datastar/datastar.js"
    (tmp_path / browser_runtime.FILE_NAME).write_bytes(script.read_bytes())
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(browser_runtime, "_PACKAGE", "no-such-package==0")
    assert browser_runtime.fetch(tmp_path) == tmp_path / browser_runtime.FILE_NAME


def test_wrong_usage_exits_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert browser_runtime.main([]) == 2
    assert "usage" in capsys.readouterr().err
