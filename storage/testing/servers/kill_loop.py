"""A program that is started, killed at a random moment and started again; what is left is judged.

The program tells on its standard output, a line each, `try NAME` before it does something that
must last, and `ack NAME` once it was told that it is done. Names have no spaces and are never used
twice. Whatever it is killed at: what was acknowledged is there once, anything else that was tried
once or not at all, and nothing that nobody tried (`Told.judge`).
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random, SystemRandom
from subprocess import DEVNULL, PIPE
from tempfile import TemporaryFile
from typing import IO

import trio

from storage.testing.samples import PATIENCE_S

# Between the last acknowledgement that is waited for and the signal: where in its next work the
# program is killed. Longer than most single writes take, short enough for many rounds.
PAUSE_S_MAX = 0.02
# A killed process is gone at once, and its output closed; a machine in trouble takes longer.
_GONE_S = 30.0
# Of its errors, when it ended by itself: the last lines of a traceback.
_SAID_BYTES = 2000


@dataclass
class Told:
    """What a program has said of its work, over all rounds."""

    tried: set[str] = field(default_factory=set)
    acknowledged: set[str] = field(default_factory=set)

    def hear(self, line: str) -> None:
        """Call this with a line of the program; other words than `try` and `ack` are passed by."""
        word, _, name = line.strip().partition(" ")
        if word == "try":
            self.tried.add(name)
        elif word == "ack":
            self.acknowledged.add(name)

    def judge(self, stored: Iterable[str]) -> None:
        """Call this with the names of all that is there; AssertionError for lost, doubled, other.

        Everything there counts, so that what is there twice is seen.
        """
        times = Counter(stored)
        doubled = sorted(name for name, count in times.items() if count > 1)
        lost = sorted(self.acknowledged - set(times))
        strange = sorted(set(times) - self.tried)
        assert not lost, f"acknowledged, and lost: {lost[:20]}"
        assert not doubled, f"there more than once: {doubled[:20]}"
        assert not strange, f"there, and nobody tried: {strange[:20]}"


class KillLoop:
    """Runs a command for some rounds, each ended by SIGKILL behind some acknowledgements.

    ```python
    async def check(told: Told) -> None:
        told.judge(ledger.read_text().split())

    await KillLoop([sys.executable, "-m", "shop"], seed=7).run(check)
    ```

    `seed` says when it is killed: behind how many acknowledgements of a round, 1 to `acks_max`, and
    how long after. Without one a new one is drawn, or that of `SEED` in the environment is taken;
    it is printed, so that a failure can be looked for again. What the program does by chance and
    how fast are its own.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        seed: int | None = None,
        rounds: int = 10,
        acks_max: int = 30,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        if rounds < 1 or acks_max < 1:
            raise ValueError(f"rounds ({rounds}) and acks_max ({acks_max}) must be at least 1")
        if seed is None:
            seed = int(os.environ.get("SEED", SystemRandom().randrange(10**6)))
        self.seed, self.told, self.round = seed, Told(), 0
        self._command, self._rounds, self._acks_max = [*command], rounds, acks_max
        self._cwd, self._env = cwd, None if env is None else {**env}
        self._random = Random(seed)

    async def run(
        self,
        check: Callable[[Told], Awaitable[None]],
        *,
        between: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint,
    ) -> Told:
        """Call this to run all rounds; after each `between`, then `check` on what was told so far.

        Raises what `check` does, with a note of seed and round, and AssertionError when the program
        ends by itself or says nothing for two minutes. When it is cancelled the program is
        killed all the same. Returns what the program told.
        """
        print(f"SEED={self.seed}")  # noqa: T201  (pytest shows it with a failure)
        for number in range(1, self._rounds + 1):
            self.round = number
            try:
                await self._once()
                await between()
                await check(self.told)
            except Exception as error:
                error.add_note(f"round {number} of the kill loop with SEED={self.seed}")
                raise
        return self.told

    async def _once(self) -> None:
        wanted = len(self.told.acknowledged) + self._random.randint(1, self._acks_max)
        pause_s = self._random.uniform(0, PAUSE_S_MAX)
        with TemporaryFile() as errors:
            process = await trio.lowlevel.open_process(
                self._command,
                stdin=DEVNULL,
                stdout=PIPE,
                stderr=errors,
                cwd=self._cwd,
                env=self._env,
            )
            assert process.stdout is not None
            lines = _Lines(process.stdout, self.told)
            try:
                async with process.stdout:
                    while len(self.told.acknowledged) < wanted:
                        is_open = await lines.hear("the program says nothing any more", PATIENCE_S)
                        assert is_open, f"the program ended by itself{_last_of(errors)}"
                    await trio.sleep(pause_s)
                    process.kill()
                    left = "the program is killed, and left a process that has its output"
                    while await lines.hear(left, _GONE_S):
                        pass  # what it said before it died
            finally:
                process.kill()
                with trio.move_on_after(_GONE_S, shield=True):
                    await process.wait()


class _Lines:
    """Whole lines of a pipe; the last, torn one of a killed program is nobody's word."""

    def __init__(self, source: trio.abc.ReceiveStream, told: Told) -> None:
        self._source, self._told, self._rest = source, told, b""

    async def hear(self, silence: str, within_s: float) -> bool:
        """Take what came; False at the end, AssertionError when nothing comes in time."""
        data = None
        with trio.move_on_after(within_s):
            data = await self._source.receive_some()
        assert data is not None, f"{silence}: not a word within {within_s:g} s"
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._told.hear(line.decode(errors="replace"))
        return bool(data)


def _last_of(errors: IO[bytes]) -> str:
    errors.seek(max(0, errors.seek(0, os.SEEK_END) - _SAID_BYTES))
    text = errors.read().decode(errors="replace").strip()
    return f"; it said last:\n{text}" if text else ", without a word"
