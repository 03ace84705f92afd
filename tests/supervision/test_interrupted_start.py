"""Ctrl-C while a tree starts, in every step of the loop: an interrupt, and nothing else."""

import os
import signal
from collections.abc import Iterator

import pytest
import trio
import trio.abc

from actors.runtime import Actor
from supervision import Supervisor, child, open_system


class Quick(Actor[str]):
    """Is there at once."""

    def on_start(self) -> None:
        """Nothing to wait for."""

    def on_str(self, message: str) -> None:
        """Nothing to do."""


class Slow(Actor[str]):
    """Waits for a few turns of the loop."""

    async def on_start(self) -> None:
        """Wait a little."""
        for _ in range(3):
            await trio.lowlevel.checkpoint()

    async def on_str(self, message: str) -> None:
        """Nothing to do."""


class Branch(Supervisor):
    """Has one of each."""

    quick = child(Quick)
    slow = child(Slow)


class Tree(Supervisor):
    """Has two branches, and some of its own."""

    quick = child(Quick)
    slow = child(Slow)
    one = child(Branch)
    other = child(Branch)


class _AtStep(trio.abc.Instrument):
    """Sends the signal in the n-th step of a task."""

    def __init__(self, at: int) -> None:
        self.left = at

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Called by trio."""
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture(autouse=True)
def _as_a_program() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


async def _live() -> None:
    async with open_system(Tree):
        pass


def test_ctrl_c_in_any_step_of_a_start_is_an_interrupt() -> None:
    # ACT-5: a child that was yet to begin found the nursery of its owner closed
    interrupted = at = 0
    while True:
        at += 1
        steps = _AtStep(at)
        try:
            trio.run(_live, instruments=[steps], restrict_keyboard_interrupt_to_checkpoints=True)
        except KeyboardInterrupt:
            interrupted += 1
        if steps.left > 0:
            break  # it was over before
    assert interrupted > 20
