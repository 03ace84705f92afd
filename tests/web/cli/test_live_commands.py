"""Commands that ask the site that runs, by its control socket (CLI-20, RES-9)."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from actors.chat import LOBBY
from tests.logged import captured
from tests.patience import PATIENCE_S, until
from tests.processes.forked import start
from tests.web.cli.commanding import Commands, fetch
from tests.web.whole_site import in_thread, open_whole_site
from web.cli.live.showing import tree_lines
from web.mail.routes.amazon import SNS
from web.settings import Settings

pytestmark = pytest.mark.slow

TOPIC = "arn:aws:sns:eu-west-1:123456789012:mail"
SETTINGS = Settings(port=0, overload_late_ms=60_000, overload_after_ms=60_000, ses_topic=TOPIC)


async def _away() -> None:
    raise TimeoutError


async def test_the_tree_and_the_breakers_of_a_running_site(
    database_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # CLI-20, RES-3, RES-9
    run, here = Commands(database_url, capsys), ("--state-dir", str(tmp_path))
    async with open_whole_site(settings=SETTINGS, has_documents=False, control_in=tmp_path) as site:
        await until((tmp_path / "control.sock").exists)

        async def code(*words: str) -> int:
            return await in_thread(lambda: run(*words, *here))

        assert await code("tree") == 0
        assert "\n  rooms " in run.out
        assert "\n    lobby " in run.out
        assert await code("tree", "site/rooms", "--json") == 0
        paths = [json.loads(line)["path"] for line in run.out.splitlines()]
        rooms = ("lobby", "demo", "support")
        assert paths == ["site/rooms", *(f"site/rooms/{room}" for room in rooms)]
        assert await code("tree", "site/nobody") == 3
        assert run.err == (
            "greenroom: there is no actor 'site/nobody'. greenroom tree lists them.\n"
        )
        dependency = site.web.outside.dependency(SNS)
        with captured():
            for _ in range(dependency.policy.breaker.failures):
                with pytest.raises(TimeoutError):
                    await dependency.call(_away)
        assert await code("breakers", "list", "--json") == 0
        (told,) = map(json.loads, run.out.splitlines())
        assert (told["name"], told["state"], told["failures"]) == (SNS, "open", 5)
        assert await code("breakers", "reset", "nobody", "--yes") == 3
        assert "There is sns" in run.err
        assert await code("breakers", "reset", SNS) == 2, "nobody confirmed"
        assert dependency.stats().breaker.state == "open"
        assert await code("breakers", "reset", SNS, "--yes", "--reason", "it is back") == 0
        assert dependency.stats().breaker.state == "closed"
        rows = fetch(
            database_url, "SELECT action, resource, success, metadata->>'reason' FROM audit_log"
        )
        assert rows == [("breakers reset", SNS, True, "it is back")]
    for words in (("tree",), ("breakers", "list"), ("breakers", "reset", SNS, "--yes")):
        assert await in_thread(lambda words=words: run(*words, *here)) == 5  # type: ignore[misc]
        assert "no site runs on" in run.err


async def test_who_watches_the_tree_sees_what_changes_until_they_leave(tmp_path: Path) -> None:
    # CLI-20
    async with open_whole_site(has_documents=False, control_in=tmp_path) as site:
        await until((tmp_path / "control.sock").exists)
        words = ("tree", "site/rooms", "--watch", "--json", "--state-dir", str(tmp_path))
        watching, told = start("web.cli", words)

        def row(status: str, restarts: int) -> dict[str, object]:
            for line in told:
                found: dict[str, object] = json.loads(line)
                if (found["name"], found["status"], found["restarts"]) == (
                    "lobby", status, restarts,
                ):  # fmt: skip
                    return found
            raise AssertionError("it ended")

        with told:
            assert (await in_thread(lambda: row("running", 0)))["incarnation"] == 1
            lobby = site.directory.maybe_room(LOBBY)
            assert lobby is not None
            with captured():
                lobby.kill()
                assert (await in_thread(lambda: row("running", 1)))["incarnation"] == 2
            watching.send_signal(signal.SIGINT)
            assert await in_thread(lambda: watching.wait(PATIENCE_S)) == 130
        # Nobody reads any more, as behind `| head`: it ends though nothing changes.
        watching, told = start("web.cli", [word for word in words if word != "--json"])
        with told:
            assert (await in_thread(told.readline)).startswith("site/rooms ")
        assert await in_thread(lambda: watching.wait(PATIENCE_S)) == 0


def test_a_tree_is_drawn_parents_first_with_what_is_unusual() -> None:
    def row(path: str, **more: object) -> dict[str, object]:
        parent, _, name = path.rpartition("/")
        usual = {"status": "running", "strategy": None, "children": 0, "queued": 0, "restarts": 0}
        return {"path": path, "parent": parent or None, "name": name, **usual, **more}

    rows = [
        row("site", strategy="one_for_one", children=2),
        row("site/rooms", strategy="one_for_one", children=1),
        row("site/rooms/lobby", queued=7, restarts=2),
        row("site/server", status="stopping"),
    ]
    assert [" ".join(line.split()) for line in tree_lines(rows)] == [
        "site running, one_for_one, 2 below",
        "rooms running, one_for_one, 1 below",
        "lobby running, 7 waiting, 2 restarts",
        "server stopping",
    ]
    assert tree_lines(rows)[2].startswith("    lobby")
    below = tree_lines([row("site/rooms/lobby")])
    assert below[0].startswith("site/rooms/lobby "), "what is not below anybody has its whole path"
