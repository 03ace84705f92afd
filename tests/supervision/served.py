"""A program that ends with `serve`, for `test_serving.py`: it says on stdout what it does.

    python -m tests.supervision.served WHAT...

Words: `slow-start` and `slow-stop` wait for ever there, `stuck-stop` blocks the loop there,
`fails` and `gives-up` are a tree that does not start or gives up, `develops` asks for tracebacks,
`main`, `main-raises` and `main-exits` run beside the tree, `ends` is a root that ends by itself,
`plain` uses `open_system` with a nursery of trio's own instead, `deaf` ignores SIGHUP.
"""

from __future__ import annotations

import signal
import sys
import time

import trio

from actors.runtime import Actor, Exit, message
from supervision import Flags, Plan, Supervisor, child, open_system, serve
from supervision.specs.specs import ChildSpec

WORDS = frozenset(sys.argv[1:])


def say(text: str) -> None:
    print(text, flush=True)


@message
class Go:
    pass


class Part(Actor[Go]):
    """Says when it starts and stops."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def on_start(self) -> None:
        say(f"start {self.name}")
        if self.name == "middle" and "slow-start" in WORDS:
            await trio.sleep_forever()
        if self.name == "last" and "fails" in WORDS:
            raise OSError("no disk")

    async def on_go(self, message: Go) -> None:
        raise ValueError("as told")

    async def on_stop(self, exit: Exit) -> None:  # noqa: A002
        say(f"stop {self.name}")
        if self.name == "last" and "slow-stop" in WORDS:
            await trio.sleep_forever()
        if self.name == "last" and "stuck-stop" in WORDS:
            time.sleep(3600)  # noqa: ASYNC251  the mistake of a user


class Inner(Supervisor, intensity=0):
    # For ever: only a signal ends these, never a deadline of the test's machine.
    middle = child(Part, "middle", shutdown=0.0 if "slow-start" in WORDS else float("inf"))
    last = child(Part, "last", shutdown=float("inf"))


class Top(Supervisor, intensity=0):
    """A leaf, and a supervisor with two."""

    first = child(Part, "first", shutdown=float("inf"))
    inner = child(Inner)


class Ending(Actor[Go]):
    """Ends well."""

    def on_go(self, message: Go) -> None:
        self.stop()


class Ends(Supervisor):
    """Ends with its child."""

    def plan(self) -> Plan:
        spec = ChildSpec("it", Ending, restart="transient", significant=True)
        return Plan(Flags(auto_shutdown="any"), [spec])


async def end_it(ends: Ends) -> None:
    ends.ref_of("it").tell(Go())  # type: ignore[arg-type]  # what takes Go is no concern here
    await trio.sleep_forever()


async def main(top: Top) -> None:
    say("ready")
    if "gives-up" in WORDS:
        top.inner.last.tell(Go())
    if "main-raises" in WORDS:
        raise LookupError("main's own")
    if "main-exits" in WORDS:
        raise SystemExit(3)
    if "main" not in WORDS:
        await trio.sleep_forever()


async def plain() -> None:
    async with open_system(Top) as top:
        await main(top)


def run() -> None:
    # A shell may have started us with Ctrl-C ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if "deaf" in WORDS:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if "ends" in WORDS:
        serve(Ends, main=end_it)
    elif "plain" in WORDS:
        try:
            trio.run(plain)
        except KeyboardInterrupt:
            say("interrupted")
            raise
    else:
        serve(Top, main=main, development="develops" in WORDS)
    handlers = [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGHUP)]
    ignored = "deaf" in WORDS
    restored = handlers == [signal.SIG_DFL, signal.SIG_IGN if ignored else signal.SIG_DFL]
    say(f"over, handlers restored: {restored}")


if __name__ == "__main__":
    run()
