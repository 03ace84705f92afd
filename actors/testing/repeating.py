"""Twice the same: a scenario run again, here and in another process, has to give the same bytes.

What a simulation does not control (the order of a set of texts, a file, something real deep in an
object) shows here. Let a test call `check_repeatable` once for each scenario; a simulation that
cannot be repeated finds errors that nobody can find again.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final, cast

from actors.testing.simulation import Scenario, Simulation
from actors.testing.trace import first_difference

# Nobody's own choice; that it is another one is what matters.
HASH_SEEDS: Final = ("1", "2")
# A run takes milliseconds of real time; this only ends one that never does.
PROCESS_S_MAX: Final = 600.0


class NotRepeatable(AssertionError):
    """Two runs of one seed differ: the text shows the first line that does, and its neighbours.

    `first` and `second` are the traces. What differs first was caused just before it: look there
    for a set of texts that is iterated over, for `id()` or `hash()`, or for state that a run leaves
    to the next one.
    """

    def __init__(self, seed: int, where: str, first: bytes, second: bytes) -> None:
        super().__init__(
            f"seed {seed} gave another trace {where}; {first_difference(first, second)}"
        )
        self.seed, self.first, self.second = seed, first, second


def check_repeatable(scenario: Scenario, seed: int = 0, *, processes: bool = False) -> bytes:
    """Call this (not within trio) to run `scenario` twice and compare; gives the trace.

    With `processes` it is run in two more processes, whose texts have other hashes: sets of them
    are in another order there. The scenario must be a function of a module then, so that they find
    it. Raises NotRepeatable, whatever the scenario raises, and ValueError for one that no other
    process can find.
    """
    first = Simulation(seed).run(scenario)
    second = Simulation(seed).run(scenario)
    if first != second:
        raise NotRepeatable(seed, "the second time", first, second)
    for hash_seed in HASH_SEEDS if processes else ():
        second = _elsewhere(scenario, seed, hash_seed)
        if first != second:
            raise NotRepeatable(seed, f"with PYTHONHASHSEED={hash_seed}", first, second)
    return first


def _elsewhere(scenario: Scenario, seed: int, hash_seed: str) -> bytes:
    """The trace of a scenario in a process of its own."""
    module, name = _address(scenario)
    with tempfile.TemporaryDirectory() as folder:
        # Not its output: what the scenario prints goes there.
        trace = Path(folder, "trace")
        done = subprocess.run(
            [sys.executable, "-m", __name__, *module, name, str(seed), str(trace)],
            env={
                **os.environ,
                "PYTHONHASHSEED": hash_seed,
                "PYTHONPATH": os.pathsep.join(sys.path),
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=PROCESS_S_MAX,
        )
        if done.returncode != 0:
            raise RuntimeError(f"the scenario failed in another process:\n{done.stderr}")
        return trace.read_bytes()


def _address(scenario: Scenario) -> tuple[tuple[str, str], str]:
    """The name and file of its module, and its name there."""
    name = getattr(scenario, "__qualname__", "<unknown>")
    module = sys.modules.get(getattr(scenario, "__module__", ""))
    file = getattr(module, "__file__", None)
    if file is None or getattr(module, name, None) is not scenario:
        raise ValueError(
            f"another process does not find {name}; write it as a function at the top of a module"
        )
    assert module is not None
    return (module.__name__, file), name


def _found(module: str, file: str, name: str) -> Scenario:
    if module != "__main__":
        # By its name, so that what it imports of its neighbours is there once.
        with suppress(ModuleNotFoundError):
            return cast(Scenario, getattr(importlib.import_module(module), name))
    spec = importlib.util.spec_from_file_location("scenario", file)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules["scenario"] = made
    spec.loader.exec_module(made)
    return cast(Scenario, getattr(made, name))


def main(module: str, file: str, name: str, seed: str, trace: str) -> None:
    """Called in the other process."""
    Path(trace).write_bytes(Simulation(int(seed)).run(_found(module, file, name)))


if __name__ == "__main__":
    main(*sys.argv[1:])
