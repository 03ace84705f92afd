"""The kill loop finds what a program loses or doubles, and leaves no program behind."""

import os
import sys
from pathlib import Path

import pytest
import trio
import trio.lowlevel

from storage.testing import KillLoop, Told
from storage.testing.servers import kill_loop
from tests.patience import PATIENCE_S

# It writes each name to its ledger; `WHAT` says how well it does that.
_PROGRAM = """
import os, sys
what, ledger, pid_file = sys.argv[1:]
open(pid_file, "w").write(str(os.getpid()))
out = os.open(ledger, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
if what == "ends":
    sys.exit("no such plan")
for number in range(1_000_000):
    name = f"{os.getpid()}-{number}"
    os.write(1, f"try {name}\\n".encode())
    if what == "early":
        if number % 5 == 4:
            os.write(out, held.encode())
        held = f"{name}\\n" if number % 5 == 0 else held + f"{name}\\n"
    else:
        os.write(out, f"{name}\\n".encode() * (2 if what == "twice" and number == 3 else 1))
    os.write(1, f"some other words\\nack {name}\\n".encode())
"""


def _loop(tmp_path: Path, what: str, **options: int) -> tuple[KillLoop, Path]:
    ledger, pid = tmp_path / "ledger", tmp_path / "pid"
    command = [sys.executable, "-S", "-c", _PROGRAM, what, str(ledger), str(pid)]
    given = {"seed": 7, "rounds": 3, "acks_max": 20, **options}
    return KillLoop(command, **given), ledger  # type: ignore[arg-type]


def _is_gone(tmp_path: Path) -> bool:
    try:
        os.kill(int((tmp_path / "pid").read_text()), 0)
    except ProcessLookupError:
        return True
    return False


async def _nothing(told: Told) -> None:
    await trio.lowlevel.checkpoint()


async def test_an_honest_program_is_found_honest_after_each_kill(tmp_path: Path) -> None:
    # TEST-10
    loop, ledger = _loop(tmp_path, "honest")
    checked: list[int] = []
    rests: list[str] = []

    async def between() -> None:
        assert _is_gone(tmp_path)
        rests.append("rest")

    async def check(told: Told) -> None:
        told.judge(ledger.read_text().split())
        checked.append(len(told.acknowledged))

    with trio.fail_after(PATIENCE_S):
        told = await loop.run(check, between=between)
    assert len(checked) == len(rests) == 3
    assert checked == sorted(set(checked))
    assert checked[-1] == len(told.acknowledged)


@pytest.mark.parametrize(("what", "why"), [("twice", "more than once"), ("early", "and lost")])
async def test_a_program_that_loses_or_doubles_is_found(
    tmp_path: Path, what: str, why: str
) -> None:
    # TEST-10
    loop, ledger = _loop(tmp_path, what, acks_max=40, rounds=20)

    async def check(told: Told) -> None:
        told.judge(ledger.read_text().split())

    with trio.fail_after(PATIENCE_S), pytest.raises(AssertionError, match=why) as caught:
        await loop.run(check)
    assert "kill loop with SEED=7" in caught.value.__notes__[0]
    assert _is_gone(tmp_path)


async def test_a_program_that_ends_by_itself_is_told_with_its_last_words(tmp_path: Path) -> None:
    # TEST-10
    loop, _ = _loop(tmp_path, "ends")
    with pytest.raises(AssertionError, match=r"ended by itself; it said last:\s+no such plan"):
        await loop.run(_nothing)


async def test_a_program_that_says_nothing_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # TEST-10
    monkeypatch.setattr(kill_loop, "PATIENCE_S", 0.01)
    loop = KillLoop(["sleep", "1000"], seed=1)
    with pytest.raises(AssertionError, match="says nothing any more"):
        await loop.run(_nothing)


async def test_a_process_that_is_left_over_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # TEST-10: a child that goes on with the output of its parent
    monkeypatch.setattr(kill_loop, "_GONE_S", 0.3)
    script = "sleep 60 & echo $! > pid; echo ack 1; wait"
    loop = KillLoop(["sh", "-c", script], seed=1, acks_max=1, cwd=tmp_path)
    try:
        with pytest.raises(AssertionError, match="left a process"):
            await loop.run(_nothing)
    finally:
        os.kill(int((tmp_path / "pid").read_text()), 9)


async def test_who_cancels_it_leaves_no_program_behind(tmp_path: Path) -> None:
    # TEST-10
    loop, _ = _loop(tmp_path, "honest", acks_max=10**6)
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(loop.run, _nothing)
            while not (tmp_path / "pid").exists() or not loop.told.acknowledged:  # noqa: ASYNC110
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
    assert _is_gone(tmp_path)


def test_what_was_told_is_judged() -> None:
    # TEST-10
    told = Told()
    for line in ("try a", "ack a", "try b\n", "try c", "other d", "ack"):
        told.hear(line)
    told.acknowledged.discard("")
    for stored in (["a"], ["a", "b"], ["b", "a", "c"]):
        told.judge(stored)
    for wrong, why in ((["b"], "lost"), (["a", "a"], "once"), (["a", "d"], "nobody tried")):
        with pytest.raises(AssertionError, match=why):
            told.judge(wrong)
    with pytest.raises(ValueError, match="rounds"):
        KillLoop(["true"], rounds=0)
