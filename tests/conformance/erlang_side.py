"""The real supervisor: one long-lived `erl` that plays scenarios, spoken to line by line.

What it plays with stands in `erlang/*.erl`, compiled anew at each run.
"""

import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tests.conformance.observation import Level, Observation
from tests.conformance.scenario import Scenario
from tests.conformance.terms import scenario_term

# Scenarios wait for real time only a few seconds, but their answers are read while our side plays,
# on whatever machine this is; so long only one that hangs takes.
PATIENCE_S = 900.0
SOURCES = Path(__file__).parent / "erlang"


def is_installed() -> bool:
    """Call this to know whether there is an Erlang to compare with."""
    return shutil.which("erl") is not None and shutil.which("erlc") is not None


class Erlang:
    """A running Erlang."""

    def __init__(self, process: subprocess.Popen[str], to: IO[str], back: IO[str]) -> None:
        self._process, self._to, self._back = process, to, back

    def play(self, scenarios: Iterable[Scenario]) -> Iterator[tuple[Scenario, list[Observation]]]:
        """Call this to play scenarios, many at once; they come back as each is done."""
        everything = list(scenarios)
        # Those whose windows run out go first and alone: their steps must not be seconds apart
        # because thousands of others have their turn in between.
        for is_timed in (True, False):
            chosen = {one.seed: one for one in everything if one.is_timed == is_timed}
            yield from self._play_at_once(chosen)

    def _play_at_once(
        self, waiting: dict[int, Scenario]
    ) -> Iterator[tuple[Scenario, list[Observation]]]:
        # Beside the reading: both pipes are shorter than what passes through them.
        lines = [scenario_term(scenario) for scenario in waiting.values()]
        threading.Thread(target=self._write, args=(lines,), daemon=True).start()
        # Nobody waits for ever: its end is the end of the reading.
        patience = threading.Timer(PATIENCE_S, self._process.kill)
        patience.start()
        try:
            yield from self._answers(waiting)
        finally:
            patience.cancel()

    def _answers(
        self, waiting: dict[int, Scenario]
    ) -> Iterator[tuple[Scenario, list[Observation]]]:
        while waiting:
            line = self._back.readline()
            if not line:
                raise EOFError(f"Erlang ended, or hung, with {sorted(waiting)[:9]} not played")
            seed, _, told = line.partition("\t")
            if told.startswith("cannot play"):
                raise RuntimeError(f"seed {seed}: Erlang {told}")
            scenario = waiting.pop(int(seed))
            lines = [line, *(self._back.readline() for _ in scenario.steps[1:])]
            yield scenario, [parse(one) for one in lines]

    def _write(self, lines: list[str]) -> None:
        self._to.writelines(lines)
        self._to.flush()


@contextmanager
def open_erlang() -> Iterator[Erlang]:
    """Call this for a running Erlang; leaving it ends the process."""
    with tempfile.TemporaryDirectory(prefix="conformance-") as beams:
        sources = sorted(str(path) for path in SOURCES.glob("*.erl"))
        subprocess.run(["erlc", "-Werror", "-o", beams, *sources], check=True)
        # One scheduler: what one process tells two others arrives at both before either goes on.
        command = ["erl", "-noshell", "+S", "1:1", "-pa", beams, "-run", "conf_main", "main"]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                yield Erlang(process, process.stdin, process.stdout)
            finally:
                process.kill()


def parse(line: str) -> Observation:
    """Call this to read one line of Erlang's."""
    _, _, result, log, ends, answers, tree, life = line.rstrip("\n").split("\t")
    return Observation(
        result,
        _parts(log, ","),
        _parts(ends, ","),
        _parts(answers, ";"),
        tuple(_level(one) for one in _parts(tree, ";")),
        life,
    )


def _parts(text: str, separator: str) -> tuple[str, ...]:
    return tuple(text.split(separator)) if text else ()


def _level(text: str) -> Level:
    name, counts, children = text.split(" ")
    return Level(name, counts, () if children == "empty" else tuple(children.split(",")))
