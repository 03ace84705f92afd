"""Erlang as a peer of the benchmarks: it does what is asked; where it is missing nothing is run."""

import pytest

from tests.bench.erlang_peer import open_peer
from tests.erlang import is_installed


@pytest.mark.slow
@pytest.mark.skipif(not is_installed(), reason="NOT COMPARED WITH ERLANG: erl is not installed")
def test_the_compiled_peer_measures_each_phase() -> None:
    # PERF-16
    with open_peer() as erlang:
        assert erlang is not None
        for what, phases in (("cast", 1), ("call", 1), ("alone", 2), ("supervised", 2)):
            times = erlang.times(what, 1_000)  # type: ignore[arg-type]  # the words of the request
            assert len(times) == phases
            assert all(one > 0 for one in times)


def test_without_erlang_nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with open_peer() as erlang:
        assert erlang is None
