"""The link of a node: its settings, what a start refuses, and what its health tells."""

from __future__ import annotations

import base64
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trio

from actors.cluster.link import LinkStatus
from actors.runtime import open_actors
from tests.logged import captured, silenced
from tests.nats_server import (
    PASSWORD,
    USER,
    NatsServer,
    ServerFile,
    User,
    missing,
    version,
)
from tests.patience import until
from tests.processes.ports import free_ports
from web.app.clustering import EXIT_SETTINGS, Refused
from web.app.linking import DOWN_S_MAX, EXIT_ABSENT, NodeLink, check_link, judge_link, link_of
from web.observability.health import Checked, HealthReport, unhealthy
from web.settings import NODE_DRAIN_S, BadSettings, Cluster, Settings, read_settings

SECRET = base64.urlsafe_b64encode(b"x" * 32).decode().rstrip("=")
GIVEN = {"CLUSTER": "on", "DATABASE_URL": "postgres://localhost/x", "CLUSTER_SECRET": SECRET}
OWN = ("gr.greenroom.>",)

needs_server = pytest.mark.skipif(bool(missing()), reason=missing())


def problems(**given: str) -> list[str]:
    with pytest.raises(BadSettings) as told:
        read_settings({**GIVEN, **given})
    assert "hunter2" not in str(told.value)
    return [line.partition(":")[0] for line in told.value.problems]


def test_a_node_has_longer_for_its_end_unless_it_is_told() -> None:
    # CLU-41
    node = {**GIVEN, "NATS_URL": "nats://127.0.0.1"}
    assert read_settings(node).drain_budget_s == NODE_DRAIN_S > Settings().drain_budget_s
    assert read_settings({**node, "DRAIN_BUDGET_SECS": "10"}).drain_budget_s == 10
    assert read_settings({}).drain_budget_s == Settings().drain_budget_s


def test_servers_are_read_with_their_ports_and_tls_beyond_this_machine(tmp_path: Path) -> None:
    # CLU-55
    token = tmp_path / "token"
    token.write_text("x")
    read = read_settings(
        {
            **GIVEN,
            "NATS_URL": "nats://127.0.0.1, tls://localhost:1,nats://[::1]:2,nats://n1.example:3",
            "NATS_TOKEN_FILE": str(token),
        }
    )
    assert read.nats_url == (
        "nats://127.0.0.1:4222",
        "tls://localhost:1",
        "nats://[::1]:2",
        "tls://n1.example:3",
    )


def test_a_server_that_cannot_be_is_refused(tmp_path: Path) -> None:
    # CLU-4
    for url in (
        *("n1:4222", "http://n1", "nats://", "nats://n1:99999", "nats://n1:0", "nats://n1/x"),
        *("nats://ada:hunter2@127.0.0.1", "nats://hunter2@127.0.0.1", ",", "nats://[::1"),
    ):
        assert problems(NATS_URL=url) == ["NATS_URL"], url


def test_beyond_this_machine_a_node_says_who_it_is_in_one_way(tmp_path: Path) -> None:
    # CLU-4
    # CLU-55
    file = tmp_path / "file"
    file.write_text("hunter2")
    given, beyond = str(file), {"NATS_URL": "nats://n1.example"}
    assert problems(**beyond) == ["NATS_URL"]
    assert problems(**beyond, NATS_USER="ada") == ["NATS_USER"]
    assert problems(**beyond, NATS_PASSWORD_FILE=given) == ["NATS_USER", "NATS_URL"]
    assert problems(**beyond, NATS_NKEY_FILE=given, NATS_TOKEN_FILE=given) == ["NATS_TOKEN_FILE"]
    assert problems(**beyond, NATS_NKEY_FILE=given, NATS_TLS_CERT=given) == ["NATS_TLS_CERT"]
    absent = str(tmp_path / "absent")
    assert problems(**beyond, NATS_NKEY_FILE=absent) == ["NATS_NKEY_FILE"]
    read = read_settings({**GIVEN, **beyond, "NATS_USER": "ada", "NATS_PASSWORD_FILE": given})
    assert (read.nats_user, read.nats_password_file) == ("ada", file)
    read = read_settings({**GIVEN, **beyond, "NATS_NKEY_FILE": given})
    assert (read.nats_nkey_file, read.nats_token_file) == (file, None)
    read = read_settings({**GIVEN, **beyond, "NATS_TOKEN_FILE": given})
    assert (read.nats_nkey_file, read.nats_token_file) == (None, file)


def at(server: NatsServer, folder: Path, password: str = PASSWORD) -> Settings:
    """Settings of a node that speaks through the server."""
    file = folder / password
    file.write_text(password)
    return Settings(
        cluster=Cluster.ON,
        node_name="a",
        nats_url=(server.url,),
        nats_user=USER,
        nats_password_file=file,
    )


@needs_server
async def test_a_start_is_refused_with_the_code_of_what_is_wrong(tmp_path: Path) -> None:
    # CLU-4
    file = ServerFile(users=[User(publish=OWN, subscribe=OWN)])
    with NatsServer(tmp_path / "server", file) as server, silenced():
        await check_link(at(server, tmp_path))
        await check_link(Settings())
        for settings, words in (
            (at(server, tmp_path, "wrong"), "check the credentials"),
            (replace(at(server, tmp_path), cluster_name="other"), "permit gr.other.> both ways"),
        ):
            with pytest.raises(Refused, match=f"^NATS_URL: .*{words}") as told:
                await check_link(settings)
            assert told.value.code == EXIT_SETTINGS
        (port,) = free_ports(1)
        away = replace(at(server, tmp_path), nats_url=(f"nats://127.0.0.1:{port}",))
        with pytest.raises(Refused, match=f"127.0.0.1:{port} for 0.2 s") as told:
            await check_link(away, wait_s=0.2)
    assert told.value.code == EXIT_ABSENT


@needs_server
async def test_a_server_that_lets_nodes_stall_others_is_warned_of(tmp_path: Path) -> None:
    # CLU-56
    with NatsServer(tmp_path / "server", ServerFile()) as server, captured() as lines:
        await check_link(at(server, tmp_path))
        is_old = version(server.program) < (2, 10, 26)
    assert [line["event"] for line in lines] == ["link.server_old"] * is_old


@needs_server
async def test_beats_and_health_tell_how_the_link_is(tmp_path: Path) -> None:
    # CLU-23
    # CLU-56
    assert link_of(Settings()) is None
    with NatsServer(tmp_path / "server") as server, silenced():
        link = NodeLink(at(server, tmp_path))
        assert not link.is_up()
        async with open_actors() as system:
            ref = await system.start(link.make)
            await until(link.is_up)
            found = link.check()
            assert (found.status, found.details["connects"]) == ("healthy", 1)
            assert found.details["version"] == ".".join(map(str, version(server.program)))
            server.kill()
            await until(lambda: not link.is_up())
            assert link.check().status == "degraded"
            server.start()
            await until(link.is_up)
            assert link.check().status == "healthy"
            await ref.stop()
            await trio.lowlevel.checkpoint()


def test_a_node_that_has_no_link_for_long_is_unhealthy_and_serves_on() -> None:
    # CLU-5
    down = LinkStatus(False, 3, "n1")
    told = [judge_link(down, after_s) for after_s in (0.0, DOWN_S_MAX, DOWN_S_MAX + 1)]
    assert [one.status for one in told] == ["degraded", "degraded", "unhealthy"]
    assert judge_link(LinkStatus(True, 4, "n1", "2.11"), 0.0).status == "healthy"
    at = datetime(2026, 1, 1, tzinfo=UTC)
    reports = [HealthReport({"link": Checked(one, at, 0.0)}) for one in told]
    assert [one.to_public_json() for one in reports] == [
        {"ready": True, "status": "degraded"},
        {"ready": True, "status": "degraded"},
        {"ready": True, "status": "unhealthy"},
    ]
    # What is amiss beside it counts as ever.
    more = {"link": Checked(told[-1], at, 0.0), "store": Checked(unhealthy("away"), at, 0.0)}
    assert not HealthReport(more).is_ready
