"""The real supervisor: one long-lived `erl` that plays scenarios, spoken to line by line.

What it plays with stands in `erlang/*.erl`, compiled anew at each run.
"""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conformance.observation import Level, Observation
from tests.conformance.scenario import Scenario
from tests.conformance.terms import scenario_term
from tests.erlang import Program, open_program

# Scenarios wait for real time only a few seconds, but their answers are read while our side plays,
# on whatever machine this is; so long only one that hangs takes.
PATIENCE_S = 900.0
SOURCES = Path(__file__).parent / "erlang"
MAIN = SOURCES / "conf_main.erl"


class Erlang:
    """A running Erlang."""

    def __init__(self, program: Program) -> None:
        self._program = program

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
        patience = threading.Timer(PATIENCE_S, self._program.kill)
        patience.start()
        try:
            yield from self._answers(waiting)
        finally:
            patience.cancel()

    def _answers(
        self, waiting: dict[int, Scenario]
    ) -> Iterator[tuple[Scenario, list[Observation]]]:
        while waiting:
            line = self._program.back.readline()
            if not line:
                raise EOFError(f"Erlang ended, or hung, with {sorted(waiting)[:9]} not played")
            seed, _, told = line.partition("\t")
            if told.startswith("cannot play"):
                raise RuntimeError(f"seed {seed}: Erlang {told}")
            scenario = waiting.pop(int(seed))
            lines = [line, *(self._program.back.readline() for _ in scenario.steps[1:])]
            yield scenario, [parse(one) for one in lines]

    def _write(self, lines: list[str]) -> None:
        self._program.to.writelines(lines)
        self._program.to.flush()


@contextmanager
def open_erlang() -> Iterator[Erlang]:
    """Call this for a running Erlang; leaving it ends the process."""
    # One scheduler: what one process tells two others arrives at both before either goes on.
    with open_program([MAIN, *sorted(set(SOURCES.glob("*.erl")) - {MAIN})], "+S", "1:1") as program:
        yield Erlang(program)


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
