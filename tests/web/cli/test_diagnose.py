"""`greenroom diagnose`: what is in the archive, and what is not (OBS-12)."""

from __future__ import annotations

import json
import os
import resource
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from actors.runtime import Log, Secret
from tests.patience import until
from tests.web.cli.commanding import Commands
from tests.web.whole_site import in_thread, open_whole_site
from web.observability import configure_logging
from web.observability.operating.control.diagnosing import Cut
from web.observability.operating.recent import LINES_MAX, RECENT, RecentLines
from web.settings import VARIABLES, LogFormat, LogLevel, Settings

TOKEN = "planted-token-of-metrics"
URL = "postgresql://ada:planted%2Fpassword@db.example.org/site"
KEY = b"\x01\xfe" + b"planted-key-of-sessions" * 3
SETTINGS = Settings(
    port=0,
    overload_late_ms=60_000,
    overload_after_ms=60_000,
    metrics_token=Secret(TOKEN),
    database_url=Secret(URL),
    session_secret=Secret(KEY),
)
PLANTED = ("planted", "hunter2")


def names_in(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def unpacked(file: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    with tarfile.open(file) as archive:
        for entry in archive:
            assert entry.isfile()
            data = archive.extractfile(entry)
            assert data is not None
            found[entry.name.removeprefix("greenroom-diagnosis/")] = data.read().decode()
    return found


@pytest.mark.slow
async def test_a_running_site_is_packed_without_any_secret(
    database_url: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # OBS-12, OBS-5
    out, run = tmp_path / "help.tar.gz", Commands(database_url, capsys)
    monkeypatch.setenv("METRICS_TOKEN", TOKEN)
    async with open_whole_site(settings=SETTINGS, has_documents=False, control_in=tmp_path) as site:
        await until((tmp_path / "control.sock").exists)
        configure_logging(LogFormat.JSON, LogLevel.INFO, recent=RECENT)
        log = Log("test")
        log.info("noted.here", password="hunter2", about=f"it is {TOKEN}", url=URL)
        log.info("noted.key", hex=KEY.hex(), text="token=planted1 and planted%2Fpassword")
        words = ("diagnose", "--out", str(out), "--state-dir", str(tmp_path), "--json")
        assert await in_thread(lambda: run(*words)) == 0, run.err
        assert json.loads(run.out)["missing"] == {}
        assert site.system.at("site/control") is not None
    assert out.stat().st_mode & 0o777 == 0o600
    assert names_in(tmp_path) == ["control.lock", "help.tar.gz"]
    files = unpacked(out)
    assert sorted(files) == [
        "about.json", "log.txt", "metrics.txt", "missing.json", "settings.json", "store.json",
        "tasks.txt", "tree.jsonl",
    ]  # fmt: skip
    for name, text in files.items():
        for secret in (*PLANTED, KEY.hex(), database_url):
            assert secret not in text, (name, secret)
    settings = json.loads(files["settings.json"])
    assert sorted(settings) == sorted(VARIABLES)
    assert settings["METRICS_TOKEN"] == settings["DATABASE_URL"] == "***"
    assert settings["LAB_MODE"] == "public"
    paths = [json.loads(line)["path"] for line in files["tree.jsonl"].splitlines()]
    assert {"site", "site/rooms/lobby", "site/control"} <= set(paths)
    assert "\n      actors: clock  clock.py:" in files["tasks.txt"]
    assert "site/control (child tasks)  " in files["tasks.txt"]
    assert "\ngreenroom_actors{" in files["metrics.txt"]
    assert "noted.here" in files["log.txt"]
    assert json.loads(files["store.json"])["problems"] == []
    assert json.loads(files["about.json"])["packages"]["trio"]


def test_without_a_site_or_a_store_it_holds_what_there_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # OBS-12
    monkeypatch.setenv("METRICS_TOKEN", TOKEN)
    nowhere = "postgresql://ada:hunter2@127.0.0.1:1/site"
    run, out = Commands(nowhere, capsys), tmp_path / "help.tar.gz"
    words = ("diagnose", "--state-dir", str(tmp_path), "--out")
    monkeypatch.setenv("DATABASE_WAIT_SECS", "0")
    assert run(*words, str(out)) == 0
    assert "without of the running site: no site runs on" in run.err
    files = unpacked(out)
    missing = json.loads(files["missing.json"])
    assert sorted(missing) == ["of the running site", "store.json"]
    assert sorted(files) == ["about.json", "missing.json", "settings.json"]
    for text in (*files.values(), run.out, run.err):
        assert not [secret for secret in PLANTED if secret in text]
    before = out.read_bytes()
    assert run(*words, str(out)) == 4, "it is written over nothing"
    assert out.read_bytes() == before
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    assert run(*words, str(tmp_path / "link")) == 4
    assert run(*words, str(tmp_path / "none" / "help.tar.gz")) == 3
    with _small_files():
        assert run(*words, str(tmp_path / "other.tar.gz")) == 1
    assert "cannot be written (File too large); nothing is left of it. Name a file on" in run.err
    assert names_in(tmp_path) == ["help.tar.gz", "link"]


@contextmanager
def _small_files() -> Iterator[None]:
    """As on a disk that is full after a few bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_the_newest_lines_are_kept_and_no_more() -> None:
    # OBS-12
    recent = RecentLines()
    assert [*recent.texts()] == []
    for number in range(LINES_MAX + 700):
        recent.add(f"line {number} ü\ud800")
    lines = "\n".join(recent.texts()).split("\n")
    assert lines[-1].startswith(f"line {LINES_MAX + 699} ")
    assert LINES_MAX <= len(lines) == len(recent) < LINES_MAX + 300
    for number in range(200):
        recent.add(os.urandom(100_000).hex() + str(number))
    kept = sum(map(len, recent.texts()))
    assert kept < 10_000_000, "of long ones fewer"


def test_all_forms_of_a_secret_are_cut() -> None:
    # OBS-12: the whole address before the password in it
    cut = Cut({"a": [Secret(URL)], "b": (Secret(KEY), Secret("tiny"))})
    assert cut("a.json", f"<{URL}>") == "<***>"
    assert cut("a", "at planted/password or planted%2Fpassword") == "at *** or ***"
    assert cut("a", KEY.hex()) == "***"
    assert cut("a", "tiny words stay, token=some") == "tiny words stay, token=***"
