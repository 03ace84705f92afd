"""The log tells of a crash on one line: what, where, in which message; and never on stdout."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
import structlog
from structlog.typing import EventDict
from trio.testing import MockClock, wait_all_tasks_blocked

from actors.runtime import (
    Actor,
    ActorCrashed,
    ActorExited,
    Context,
    Crashed,
    Log,
    Ref,
    StartError,
    System,
    edge_context,
    message,
    open_actors,
)
from actors.runtime.words.places import place_of, told
from actors.testing import AnyPuppet, Call, Do, Puppet, PuppetMessage, raising
from tests.logged import captured
from tests.patience import PATIENCE_S

ROOT = Path(__file__).parents[3]


@message
class Say:
    pass


class Answers(Actor[Say]):
    def on_say(self, message: Say) -> None:
        return cast(None, 1)  # a reply to a message that asks for none


@pytest.fixture
def lines() -> Iterator[list[EventDict]]:
    """What is logged, as a program sees it that has configured structlog for warnings."""
    with captured() as lines:
        yield lines


@pytest.fixture
def all_lines(lines: list[EventDict]) -> list[EventDict]:
    """The same at level debug."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG))
    return lines


async def crash(system: System, puppet: type[Puppet], error: BaseException) -> Ref[PuppetMessage]:
    def explode(me: AnyPuppet) -> None:
        raise error

    ref: Ref[PuppetMessage] = await system.start(puppet)
    ref.tell(Do(explode))
    await system.wait_down(ref)
    return ref


async def test_a_crash_is_one_line_with_text_and_place(
    autojump_clock: MockClock, system: System, puppet: type[Puppet], lines: list[EventDict]
) -> None:
    # ACT-49, SUP-160
    ref = await crash(system, puppet, OSError("cannot open\n/etc/thing?token=abc"))
    (line,) = lines
    assert line.pop("where").endswith(" in explode")
    assert line == {
        "event": "actor_crashed",
        "log_level": "error",
        "path": ref.path,
        "incarnation": 1,
        "error": "OSError: cannot open /etc/thing?token=***",
        "message_type": "Do",
        "correlation_id": f"{system.id}-{system.reports.kept[-1].message_id}",
    }


async def test_the_place_is_the_innermost_line_of_user_code(
    autojump_clock: MockClock, system: System, puppet: type[Puppet], lines: list[EventDict]
) -> None:
    # SUP-12
    def deeper() -> None:
        import json

        json.loads("{")  # raises in the standard library

    ref: Ref[PuppetMessage] = await system.start(puppet)
    ref.tell(Do(lambda me: deeper()))
    await system.wait_down(ref)
    assert lines[0]["where"].startswith("tests/actors/runtime/test_crash_lines.py:")
    assert lines[0]["where"].endswith(" in deeper")


async def test_a_reply_nobody_promised_names_the_handler(
    autojump_clock: MockClock, lines: list[EventDict]
) -> None:
    # ACT-45
    async with open_actors() as system:
        ref = await system.start(Answers)
        ref.tell(Say())
        await system.wait_down(ref)
    assert lines[0]["where"].endswith(" in on_say")


@pytest.mark.parametrize("how", ["development", "debug"])
async def test_the_stack_is_there_for_who_develops(
    how: str,
    autojump_clock: MockClock,
    puppet: type[Puppet],
    lines: list[EventDict],
    request: pytest.FixtureRequest,
) -> None:
    if how == "debug":
        request.getfixturevalue("all_lines")
    async with open_actors(development=how == "development") as system:
        await crash(system, puppet, OSError("no disk"))
        stack = system.reports.kept[-1].stack
    (line,) = lines
    assert line["exception"] == stack
    assert "Traceback (most recent call last)" in stack


async def test_a_start_nobody_waits_for_is_told(
    autojump_clock: MockClock, system: System, puppet: type[Puppet], lines: list[EventDict]
) -> None:
    # ACT-55
    system.begin(puppet, None, raising(OSError("no disk")))
    await wait_all_tasks_blocked()
    (line,) = lines
    assert line["event"] == "actor_did_not_start"
    assert line["error"].startswith("OSError: no disk")
    lines.clear()
    with pytest.raises(StartError, match="OSError: no disk"):
        await system.start(puppet, None, raising(OSError("no disk")))
    assert lines == []


async def test_an_asker_learns_the_line_that_crashed(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # SUP-160
    error = OSError("no disk")

    def explode(me: AnyPuppet) -> None:
        raise error

    ref: Ref[PuppetMessage] = await system.start(puppet)
    with pytest.raises(ActorCrashed, match=r"OSError: no disk \(.* in explode\)") as caught:
        await ref.ask(Call(explode))
    assert caught.value.__cause__ is error
    later = ActorExited("a", Crashed(error))
    assert later.__cause__ is error


async def test_a_lost_message_says_how_its_receiver_ended(
    autojump_clock: MockClock, system: System, puppet: type[Puppet], lines: list[EventDict]
) -> None:
    # ACT-92
    ref: Ref[PuppetMessage] = await system.start(puppet)
    ref.tell(Do(raising(OSError("password=hunter2"))))
    ref.tell(Call(lambda me: None))
    await system.wait_down(ref)
    crashed, lost = lines
    assert (crashed["event"], lost["event"]) == ("actor_crashed", "dead_letter")
    assert (lost["reason"], lost["message_type"]) == ("stopped", "Call")
    assert lost["receiver_ended"] == "Crashed: OSError: password=***"


@pytest.mark.parametrize(
    "trace", ["0af7651916cd43dd8448eb211c80319c", "not hexadecimal, but as long"]
)
async def test_a_crash_and_what_it_loses_name_the_trace_they_were_in(
    autojump_clock: MockClock,
    system: System,
    puppet: type[Puppet],
    lines: list[EventDict],
    trace: str,
) -> None:
    # OBS-5: who reads a trace finds them
    ref: Ref[PuppetMessage] = await system.start(puppet)
    with edge_context(Context("c-1", traceparent=f"00-{trace}-b7ad6b7169203331-01")):
        ref.tell(Do(raising(OSError("no disk"))))
        ref.tell(Call(lambda me: None))
    await system.wait_down(ref)
    assert [one["event"] for one in lines] == ["actor_crashed", "dead_letter"]
    shown = trace if " " not in trace else None
    assert [one.get("trace_id") for one in lines] == [shown, shown]


def test_errors_as_one_line() -> None:
    assert told(ValueError()) == "ValueError"
    assert told(ValueError("a\n  b")) == "ValueError: a b"
    assert told(ExceptionGroup("x", [OSError("one")])) == "OSError: one"
    many = ExceptionGroup("x", [OSError(str(number)) for number in range(5)])
    assert told(many) == "5 errors together: OSError: 0; OSError: 1; OSError: 2; ..."
    assert len(told(ValueError("x" * 10_000))) <= 300
    assert place_of(ValueError("never raised")) is None


QUIET = """
import trio
from actors.runtime import Actor, message, open_actors

@message
class Go: pass

class Stock(Actor[Go]):
    def on_go(self, message: Go) -> None:
        raise ValueError("no such shelf")

async def main():
    async with open_actors() as system:
        stock = await system.start(Stock, name="stock")
        stock.tell(Go())
        await system.wait_down(stock)
        stock.tell(Go())

CONFIGURE
trio.run(main)
"""


def ran(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE_S,
    )


@pytest.mark.slow
def test_a_program_that_set_up_no_log_reads_its_crash_on_stderr() -> None:
    done = ran(QUIET.replace("CONFIGURE", ""))
    assert done.stdout == ""
    crashed, lost = done.stderr.splitlines()
    assert crashed.startswith("[error] actor_crashed path=stock incarnation=1 ")
    assert "error=ValueError: no such shelf where=<string>:10 in on_go" in crashed
    assert lost.startswith("[warning] dead_letter path=stock reason=no_such_actor ")


@pytest.mark.slow
def test_what_the_program_configured_rules() -> None:
    stdlib = "import logging; logging.basicConfig(format='%(name)s|%(message)s')"
    done = ran(QUIET.replace("CONFIGURE", stdlib))
    assert done.stdout == ""
    assert done.stderr.startswith("actors.crashes|actor_crashed path=stock")
    silent = "import logging; logging.disable()"
    assert ran(QUIET.replace("CONFIGURE", f"{stdlib}; {silent}")).stderr == ""


def test_a_log_that_cannot_be_asked_has_no_debug(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> bool:
        raise OSError

    monkeypatch.setattr(structlog, "is_configured", broken)
    assert not Log("x").has_debug
