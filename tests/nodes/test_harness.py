"""What judges nodes can find something, and the balancer's files are those of the page."""

from __future__ import annotations

import subprocess
from pathlib import Path
from random import Random

import pytest

from tests.conformance.outside.proxies import PROXIES
from tests.nodes.balancer import documented, program_of
from tests.nodes.crowd import Crowd, Figures, Program
from tests.nodes.judging import judge_posts
from tests.nodes.kit import Setup, missing
from tests.processes.ports import free_ports

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


def test_what_is_not_installed_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    # CLU-42
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("HAPROXY", raising=False)
    assert missing(Setup(balancer="haproxy")).startswith("not run: no haproxy")
