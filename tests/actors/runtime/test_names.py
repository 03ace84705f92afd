"""Names an author may not take: those of what every actor has from the runtime."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from trio.testing import MockClock

from actors.runtime import Actor, StartError, System, open_actors
from supervision import Supervisor, child
from tests.actors.runtime.kit import Go, Small

# Methods and properties, public and private ones.
TAKEN = [
    *("stop", "after", "every", "link", "monitor", "start_soon", "stash", "become", "hibernate"),
    *("path", "ref", "nursery", "system", "cell", "deadline", "incarnation", "asker_gone"),
    *("_reply", "_activity"),
]


class Setting(Actor[Go]):
    """An actor that sets an attribute of any name, in `__init__` or in `on_start`."""

    def __init__(self, first: str, later: str) -> None:
        self.first = self.later = ""
        setattr(self, first, 5)
        self._later = later

    def on_start(self) -> None:
        setattr(self, self._later, 5)

    def on_go(self, message: Go) -> None: ...


class AsyncSetting(Setting):
    async def on_start(self) -> None:  # type: ignore[override]
        super().on_start()


@pytest.mark.parametrize("kind", [Setting, AsyncSetting])
@pytest.mark.parametrize("name", TAKEN)
@pytest.mark.parametrize("place", ["__init__", "on_start"])
async def test_an_attribute_that_takes_such_a_name_fails_the_start(
    kind: type[Setting], name: str, place: str, autojump_clock: MockClock
) -> None:
    # ACT-47: in words that name class and attribute
    names = (name, "later") if place == "__init__" else ("first", name)
    async with open_actors() as system:
        with pytest.raises(StartError) as caught:
            await system.start(kind, *names)
        assert isinstance(caught.value.cause, TypeError)
        assert f"{kind.__name__}.{name} takes" in str(caught.value.cause)
        assert not list(system.cells())


async def test_names_of_settings_and_hooks_are_free(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-47: nothing of an instance is called or read there that was not meant to be
    for kind in (Setting, AsyncSetting):
        for name in (
            *("capacity", "budget", "level", "overflow", "start_timeout", "name", "on_stop"),
            *("hibernate_after", "opens_nursery", "trap_exits"),
        ):
            await system.start(kind, "first" if name == "on_stop" else name, "later")


def make(name: str, base: type, *mixins: type) -> Callable[[], object]:
    return lambda: type("Taker", (*mixins, base), {name: lambda self: None})


@pytest.mark.parametrize("name", [*TAKEN, "_life"])
def test_a_class_that_takes_such_a_name_is_refused(name: str) -> None:
    # ACT-40
    with pytest.raises(TypeError, match=rf"Taker\.{name} takes"):
        make(name, Small)()


def test_a_mixin_takes_no_such_name_either() -> None:
    # ACT-40
    class Mixin:
        def stop(self) -> None: ...

    with pytest.raises(TypeError, match=r"Mixin\.stop takes"):
        make("other", Small, Mixin)()
    # Behind the actor it takes nothing.
    type("Taker", (Small, Mixin), {})


@pytest.mark.parametrize("name", ["stop", "tree", "ref_of", "start_child", "which_children"])
def test_a_child_takes_no_such_name_either(name: str) -> None:
    # ACT-40, SUP-1
    with pytest.raises(TypeError, match=rf"Taker\.{name} takes"):
        type("Taker", (Supervisor,), {name: child(Small)})


def test_hooks_may_be_overridden() -> None:
    # ACT-40
    for name in ("on_start", "on_stop", "receive", "redact", "on_system"):
        make(name, Small)()
    for name in ("plan", "jitter", "on_start", "on_stop"):
        make(name, Supervisor)()


@pytest.mark.parametrize(
    ("name", "value"),
    [("start_timeout", "soon"), ("start_timeout", -1), ("start_timeout", float("nan")),
     ("start_timeout", None), ("start_timeout", 10**400), ("hibernate_after", -1),
     ("hibernate_after", True),
     ("budget", 64), ("budget", [64, 0.001]), ("budget", (64,)), ("budget", (0, 0.001)),
     ("budget", (6.4, 0.001)), ("budget", (True, 0.001)), ("budget", (64, 0)),
     ("budget", (64, None)), ("budget", (64, float("nan"))), ("level", "all"), ("level", None),
     ("level", ["full"]), ("stash_capacity", None), ("stash_capacity", -1)],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(name: str, value: object) -> None:
    # ACT-26, ACT-47, ACT-56, ACT-74, ACT-106: one actor of that class would have ended the system
    with pytest.raises(ValueError, match=name):
        type("Bad", (Small,), {name: value})
