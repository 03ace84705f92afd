"""What judges nodes can find something, and the balancer's files are those of the page."""

from __future__ import annotations

import subprocess
from pathlib import Path
from random import Random
from typing import cast

import pytest
import trio
from trio.testing import MockClock

from tests.conformance.outside.proxies import PROXIES
from tests.nodes import telling
from tests.nodes.balancer import documented, program_of
from tests.nodes.crowd import POST_AGAIN_S_MAX, POSTS_OPEN_MAX, Crowd, Figures, Page, Program
from tests.nodes.judging import SOON, judge_crowd, judge_posts, judge_soon
from tests.nodes.kit import Nodes, Setup, missing
from tests.nodes.telling import verdict
from tests.processes.ports import free_port, free_ports

CHECKS = {"haproxy": ["-c", "-f"], "nginx": ["-t", "-c"]}


@pytest.mark.parametrize("kind", list(PROXIES))
@pytest.mark.parametrize("count", [2, 3])
def test_the_files_of_the_page_are_taken(tmp_path: Path, kind: str, count: int) -> None:
    # CLU-42
    program = program_of(kind)
    if program is None:
        pytest.skip(missing(Setup(balancer=kind)))
    ports = free_ports(count + 1)
    text = documented(kind, ports[0], ports[1:])
    assert [f"127.0.0.1:{port}" in text for port in ports] == [True] * len(ports)
    assert "10.0.0." not in text
    file = tmp_path / "conf"
    file.write_text(PROXIES[kind][0](text, tmp_path))
    done = subprocess.run([program, *CHECKS[kind], str(file)], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


def test_what_is_lost_doubled_or_never_said_is_found() -> None:
    # CLU-43
    accepted = {"a": 0.1, "b": 0.1, "c": 0.1}
    assert judge_posts(accepted, {"a", "b", "c", "d"}, ["a", "b", "c", "d"]) == []
    assert judge_posts(accepted, {"a", "b", "c"}, ["a", "b", "b", "x"]) == [
        "c was accepted and is lost",
        "b is there 2 times",
        "x was never said",
    ]


def test_a_program_that_missed_something_is_found() -> None:
    # CLU-43
    program = Program(Crowd(1, Figures(), Random(1)))
    program.places = [("e", 3), ("e", 4), ("e", 7), ("e", 7)]
    assert program.missed() == [5, 6]
    assert not program.is_in_order()


def test_who_waits_for_ever_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    # CLU-43
    crowd = Crowd(1, Figures(accepted={"a": 0.1}, gaps=1), Random(1), said={"a", "b"})
    crowd.pages, crowd.programs = [Page(crowd, 0), Page(crowd, 1)], [Program(crowd)]
    crowd.pages[0].has_heard_last.set()
    crowd.programs[0].places = [("e", 3), ("e", 5), ("e", 5)]
    found = judge_crowd(crowd)
    assert list(found.values()) == [
        ["b was never accepted"],
        ["page 1 did not", "program 0 did not"],
        ["program 0 missed [4]", "program 0 was told twice", "1 programs were told of a gap"],
    ]
    broken = verdict({**found, "nothing": [], SOON: judge_soon(15.2, 15.0)})
    assert len(broken) == 4
    assert broken[0] == "BROKEN: every post ends: 1: b was never accepted"
    assert "> held: nothing" in capsys.readouterr().out


async def test_a_site_that_is_away_is_not_stormed(autojump_clock: MockClock) -> None:
    """As many as waited once took the harness for themselves, and the nodes' lines with it."""
    # CLU-43
    crowd = Crowd(free_port(), Figures(), Random(1))
    crowd.pages = [Page(crowd, 0)]
    is_done = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(crowd.post, 10, nursery, is_done)
        await trio.sleep(60)
        assert crowd.posts_open == POSTS_OPEN_MAX
        assert len(crowd.said) == POSTS_OPEN_MAX
        assert crowd.figures.held > 400
        tries = crowd.figures.refused.total()
        await trio.sleep(10)
        # Each comes again every two seconds, give or take a fifth.
        assert crowd.figures.refused.total() - tries < 10 / (POST_AGAIN_S_MAX * 0.8) * 100 + 100
        nursery.cancel_scope.cancel()
    assert crowd.posts_open == 0


def test_what_fails_is_left_for_who_asks_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # CLU-43
    monkeypatch.setenv("LEFT", str(tmp_path))
    written: list[Path] = []
    monkeypatch.setattr(telling, "leave", lambda *told: written.append(told[-1]))
    with pytest.raises(AssertionError, match="it broke"):  # noqa: SIM117 - one inside the other
        with telling.leaving(cast("Nodes", None), ["a fault"], []):
            raise AssertionError("it broke")
    assert written == [tmp_path]


def test_what_is_not_installed_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    # CLU-42
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("HAPROXY", raising=False)
    assert missing(Setup(balancer="haproxy")).startswith("not run: no haproxy")
