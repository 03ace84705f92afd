"""The site with `REDIS_URL`: tries are counted there, and while it is away nobody signs in."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from actors.runtime import Secret
from storage.redis import RedisSettings, open_redis
from tests.journeys.site_process import SiteProcess
from tests.journeys.test_two_processes import PASSWORD, registered
from tests.journeys.visitor import Visitor
from tests.patience import until
from tests.processes.forked import run
from tests.processes.ports import free_port
from tests.redis_server import RedisServer, missing

pytestmark = pytest.mark.slow

SECRET = "canary-of-redis"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    if missing():
        pytest.skip(missing())
    with RedisServer(tmp_path / "redis", ("--requirepass", SECRET)) as started:
        yield started


def with_password(server: RedisServer, password: str = SECRET) -> str:
    return server.url.replace("//", f"//:{password}@")


def log_in(site: SiteProcess, name: str, password: str = PASSWORD) -> int:
    fields = {"email": f"{name}@example.org", "password": password}
    return Visitor(site.url).form("/login", fields).status


def component(site: SiteProcess) -> str:
    told = json.loads(Visitor(site.url).get("/ready?verbose").body)
    return str(told["components"]["redis"]["status"])


async def test_while_redis_is_away_nobody_signs_in_and_all_else_goes_on(
    server: RedisServer, tmp_path: Path
) -> None:
    # AUTH-40
    site = SiteProcess(tmp_path / "state", REDIS_URL=with_password(server), RISK="off")
    try:
        member = await trio.to_thread.run_sync(registered, site)
        assert await counted(server) >= 1
        # Ten failures of an address, whoever they mean.
        told = [log_in(site, f"nobody{number}", "wrong words") for number in range(12)]
        assert told == [401] * 10 + [429] * 2
        server.kill()
        await until(lambda: component(site) == "degraded")
        assert log_in(site, "nobody") == 503
        assert member.get("/account").status == 200
        member.open_lab()
        assert member.post("still here").status == 202
        server.start()
        await until(lambda: component(site) == "healthy")
        # A new one has forgotten what was counted.
        assert log_in(site, "nobody", "wrong words") == 401
    finally:
        site.end()
    assert SECRET not in "\n".join(site.lines)


def test_one_that_refuses_us_or_is_away_ends_the_start(server: RedisServer, tmp_path: Path) -> None:
    # AUTH-40
    def started(url: str) -> tuple[int, str]:
        environment = {"STATE_DIR": str(tmp_path / "state"), "PORT": "0", "REDIS_URL": url}
        done = run("web.cli", ["serve"], environment={**environment, "DATABASE_WAIT_SECS": "1"})
        assert "canary" not in done.stdout + done.stderr
        return done.returncode, done.stderr

    code, said = started(with_password(server, "another-canary"))
    assert (code, "REDIS_URL: " in said, "WRONGPASS" in said) == (2, True, True)
    code, said = started(f"redis://:{SECRET}@127.0.0.1:{free_port()}")
    assert (code, "REDIS_URL: " in said, "does not answer" in said) == (1, True, True)


async def counted(server: RedisServer) -> int:
    """How many keys are counted under."""
    async with open_redis(RedisSettings.of(Secret(with_password(server)))) as client:
        size = await client.call("DBSIZE")
        assert isinstance(size, int)
        return size
