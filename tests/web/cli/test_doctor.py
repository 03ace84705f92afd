"""`greenroom doctor`: each fault has its finding, with what to do; what is well is said so."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest

from storage.postgres import Database, OldestTransaction, ServerFacts, StoreHealth, server_facts
from tests.web.cli.commanding import Commands, fetch
from web.cli.live import doctor
from web.cli.live.doctor import (
    Finding,
    folder_findings,
    path_findings,
    python_finding,
    server_findings,
    transaction_finding,
)
from web.settings import Settings

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


def _wrong(findings: list[Finding]) -> dict[str, str]:
    return {one.check: one.fix for one in findings if one.fix}


@pytest.mark.slow
def test_what_is_wrong_is_told_with_what_to_do(
    database_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    # CLI-6
    monkeypatch.setattr(doctor, "FILES_MIN", 1)
    monkeypatch.setattr(doctor, "FREE_BYTES_MIN", 1)
    run, here = Commands(database_url, capsys), ("--state-dir", str(tmp_path))
    tmp_path.chmod(0o700)
    for name, value in {"PORT": "0", "PRIVATE_KEY": "k" * 43, "SESSION_SECRET": "s" * 86}.items():
        monkeypatch.setenv(name, value)
    # The tests' own server is not durable, for speed: that is found, and nothing else.
    rows = run.json("doctor", *here)
    assert [row["check"] for row in rows if not row["ok"]] == ["durability"]

    async def as_durable(database: Database) -> ServerFacts:
        return replace(await server_facts(database), is_durable=True)

    monkeypatch.setattr(doctor, "server_facts", as_durable)
    assert run("doctor", *here) == 0, run.out
    assert "nothing is wrong" in run.err
    assert "PostgreSQL" in run.out

    tmp_path.chmod(0o755)
    (tmp_path / "private-key").write_bytes(b"k")
    (tmp_path / "private-key").chmod(0o644)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setenv("PORT", str(taken.getsockname()[1]))
        monkeypatch.setenv("METRICS_PORT", str(taken.getsockname()[1]))
        monkeypatch.setenv("HOST", "127.0.0.1")
        monkeypatch.setenv("LOG_LEVEL", "loud")
        fetch(database_url, "DELETE FROM schema_migrations WHERE version > 1")
        rows = run.json("doctor", *here)
    wrong = {str(row["check"]): str(row["fix"]) for row in rows if not row["ok"]}
    assert wrong.keys() == {"settings", "folder", "secrets", "port", "metrics", "schema"}
    assert "another METRICS_PORT" in wrong["metrics"]
    assert wrong["folder"] == f"chmod 700 {tmp_path}"
    assert wrong["secrets"] == f"chmod 600 {tmp_path / 'private-key'}"
    assert "greenroom migrate" in wrong["schema"]
    assert run("doctor", *here) == 1
    assert "WRONG secrets" in run.out
    assert f"-> chmod 700 {tmp_path}" in run.out

    nowhere = database_url.replace("/postgres&port", "/nowhere&port")
    assert nowhere != database_url
    away = Commands(nowhere, capsys)
    assert "database" in [row["check"] for row in away.json("doctor", *here) if not row["ok"]]


@pytest.mark.slow
def test_a_transaction_that_holds_all_up_is_told(
    database_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    # CLI-6
    monkeypatch.setattr(doctor, "OLDEST_WARNED_S", 0.0)
    run = Commands(database_url, capsys)

    async def hold() -> None:
        connection = await asyncpg.connect(database_url)
        async with connection.transaction():
            await connection.execute("SELECT pg_current_xact_id()")
            pid = await connection.fetchval("SELECT pg_backend_pid()")
            rows = await asyncio.to_thread(run.json, "doctor", "--state-dir", str(tmp_path))
            (found,) = [row for row in rows if row["check"] == "transactions"]
            assert f"pg_terminate_backend({pid})" in str(found["fix"])
        await connection.close()

    asyncio.run(hold())


def test_a_folder_is_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # CLI-6
    monkeypatch.setattr(doctor, "FREE_BYTES_MIN", 2**62)
    absent = tmp_path / "a" / "b"
    found = list(folder_findings(absent))
    assert "the site makes it" in found[0].found
    assert _wrong(found).keys() == {"disk"}
    assert not absent.exists()
    tmp_path.chmod(0o700)
    monkeypatch.setattr("os.geteuid", lambda: 12345)
    assert "chown" in _wrong(list(folder_findings(tmp_path)))["folder"]
    monkeypatch.setattr("os.access", lambda *_: False)
    assert "another folder" in _wrong(list(folder_findings(tmp_path)))["folder"]


def test_what_the_settings_name_beside_it_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # CLI-6
    assert list(path_findings(Settings())) == []
    key, backups = tmp_path / "key", tmp_path / "a" / "backups"
    key.write_text("k")
    key.chmod(0o640)
    settings = Settings(backup_dir=backups, mail_folder=key, nats_tls_key=key)
    found = list(path_findings(settings))
    assert found[0] == Finding("paths", f"{backups} (BACKUP_DIR) can be written")
    assert found[1].found == f"{key} cannot be written"
    assert _wrong(found[2:]) == {"secrets": f"chmod 600 {key}"}
    assert not backups.parent.exists()
    key.chmod(0o600)
    assert _wrong(list(path_findings(replace(settings, mail_folder=tmp_path)))) == {}
    monkeypatch.setattr("os.access", lambda *_: False)
    assert _wrong(list(path_findings(settings))).keys() == {"paths", "secrets"}


@pytest.mark.parametrize(
    ("facts", "wrong"),
    [
        (ServerFacts(NOON, "18.1", "UTF8", is_durable=True), set()),
        (ServerFacts(NOON + timedelta(seconds=3), "18.1", "UTF8", is_durable=True), {"clock"}),
        (ServerFacts(NOON - timedelta(seconds=3), "18.1", "UTF8", is_durable=True), {"clock"}),
        (
            ServerFacts(NOON, "18.1", "SQL_ASCII", is_durable=False),
            {"encoding", "durability"},
        ),
    ],
)
def test_a_server_is_set_as_a_store_needs_it(facts: ServerFacts, wrong: set[str]) -> None:
    # CLI-6
    found = list(server_findings(facts, NOON, NOON + timedelta(seconds=0.5)))
    assert _wrong(found).keys() == wrong


def test_pythons_and_transactions_are_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    # CLI-6
    assert python_finding((3, 10, 9)).fix
    assert not python_finding((3, 14, 0)).fix
    old = OldestTransaction(99.0, 0, "prepared transaction 'x'")
    assert "ROLLBACK PREPARED" in transaction_finding(StoreHealth("degraded", "", 1, old)).fix
    assert not transaction_finding(StoreHealth("healthy", "", 1)).fix
    monkeypatch.setattr(
        doctor, "requires", lambda _: ["trio>=0.3", "no-such>=1", "x; extra == 'y'"]
    )
    missing = list(doctor._packages())
    assert [one.fix for one in missing] == ["pip install 'no-such>=1'"]
