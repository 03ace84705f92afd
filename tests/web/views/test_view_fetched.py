"""What others made is checked by hash; a changed byte stops the build."""

import hashlib
import io
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from web.app.running import maybe_heading_font
from web.settings import HeadingFont, Settings
from web.views.fetched import browser_runtime, heading_font
from web.views.fetched.wheels import NotFetched, Wheel, check, download

BUILD = Path(__file__).parents[3] / "build"
# Nobody can make a release of this name, and pip is not asked for it where a file is kept.
NOWHERE = Wheel("no-such-package==0", "no_such_package-0-py3-none-any.whl", "0" * 64)


def test_one_changed_byte_is_refused() -> None:  # SEC-68
    with pytest.raises(NotFetched, match="SHA-256"):
        browser_runtime.unpack(b"not the wheel")


def test_a_wheel_with_another_script_is_refused() -> None:  # SEC-68
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("starhtml/static/js/datastar-core.js", "alert(1)")
        for name in ("LICENSE", "NOTICE"):
            archive.writestr(f"starhtml-0.7.0.dist-info/licenses/{name}", "x")
    wheel = buffer.getvalue()
    with pytest.raises(NotFetched, match=r"datastar-core\.js"):
        browser_runtime.unpack(wheel, sha256=hashlib.sha256(wheel).hexdigest())


def test_a_present_runtime_is_kept_without_network(tmp_path: Path) -> None:
    script = BUILD / "datastar" / browser_runtime.FILE_NAME
    assert script.is_file(), "make test fetches the runtime first: make build/datastar/datastar.js"
    (tmp_path / browser_runtime.FILE_NAME).write_bytes(script.read_bytes())
    assert browser_runtime.fetch(tmp_path, NOWHERE) == tmp_path / browser_runtime.FILE_NAME


def test_wrong_usage_exits_2(capsys: pytest.CaptureFixture[str]) -> None:
    for program in (browser_runtime, heading_font):
        assert program.main([]) == 2
        assert "usage" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("program", "file"),
    [("browser_runtime", "datastar/datastar.js"), ("heading_font", "heading/heading.ttf")],
)
def test_what_is_named_anew_is_fetched_anew(program: str, file: str) -> None:
    """SEC-68: make asks the program again when that has changed; what is still right it keeps."""
    changed = f"web/views/fetched/{program}.py"
    command = ["make", "--dry-run", "--what-if", changed, f"build/{file}"]
    told = subprocess.run(command, cwd=BUILD.parent, capture_output=True, text=True, check=True)
    assert f"web.views.fetched.{program} build/" in told.stdout


# -- the font of headings -------------------------------------------------------------------


@pytest.fixture
def font() -> bytes:
    file = BUILD / "heading" / heading_font.FILE_NAME
    if not file.is_file():
        pytest.skip("the heading font is not there; fetch it with: make build/heading/heading.ttf")
    assert (file.parent / heading_font.LICENCE_NAME).read_text().count("SIL OPEN FONT LICENSE")
    return file.read_bytes()


def downloads_nothing(wheel: Wheel, folder: Path, *, timeout_s: float, remedy: str) -> Path:
    raise NotFetched(f"{wheel.package}: no network; {remedy}")


def test_a_present_font_is_kept_without_network_and_is_small(tmp_path: Path, font: bytes) -> None:
    # SEC-68
    (tmp_path / heading_font.FILE_NAME).write_bytes(font)
    assert heading_font.fetch(tmp_path, NOWHERE, NOWHERE) == tmp_path / heading_font.FILE_NAME
    assert len(font) < 30 * 1024


def test_one_changed_byte_of_a_font_is_no_font(
    tmp_path: Path, font: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:  # SEC-68
    monkeypatch.setattr(heading_font, "download", downloads_nothing)
    kept = tmp_path / heading_font.FILE_NAME
    kept.write_bytes(font[:-1] + bytes([font[-1] ^ 1]))
    with pytest.raises(NotFetched, match="no network"):
        heading_font.fetch(tmp_path)
    assert maybe_heading_font(Settings(), made=kept) is None
    kept.write_bytes(font)
    assert maybe_heading_font(Settings(), made=kept) == kept
    assert maybe_heading_font(Settings(heading_font=HeadingFont.SYSTEM), made=kept) is None


def test_a_wheel_with_another_byte_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # SEC-68
    def brings(command: list[str], *, check: bool, timeout: float) -> None:
        (Path(command[command.index("--dest") + 1]) / heading_font.FONT.file).write_bytes(b"font")

    monkeypatch.setattr("web.views.fetched.wheels.subprocess.run", brings)
    with pytest.raises(NotFetched, match=r"has SHA-256 .*, expected .*; it was not used"):
        download(heading_font.FONT, tmp_path, timeout_s=1, remedy="do without")
    check("font", b"font", hashlib.sha256(b"font").hexdigest())
    with pytest.raises(NotFetched):
        check("font", b"fond", hashlib.sha256(b"font").hexdigest())


def test_an_installed_site_without_network_starts_with_the_systems_letters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heading_font, "download", downloads_nothing)
    monkeypatch.setattr("web.app.running._DATASTAR", tmp_path / "nothing.js")
    settings = replace(Settings(), state_dir=tmp_path)
    assert maybe_heading_font(settings, made=tmp_path / "nothing.ttf") is None
    assert list(tmp_path.iterdir()) == []
