"""View models refuse what cannot be true, so a template never has to ask."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from tests.web.views import samples
from web.views import (
    Branch,
    ErrorView,
    ImpossibleView,
    NavLink,
    RestartWindow,
    StreamView,
    UnsafeAttribute,
    element_id,
)
from web.views.words import ElementId, LocalPath, Nonce

NOWHERE = datetime(2026, 11, 21, 8, 0)  # noqa: DTZ001 - a time without a zone is what is refused
ELSEWHERE = datetime(2026, 11, 21, 8, 0, tzinfo=timezone(timedelta(hours=1)))
# Past the type checker, as a caller who casts would do it.
MARKUP = ElementId("<b>")

IMPOSSIBLE: dict[str, Callable[[], object]] = {
    "a negative count": lambda: replace(samples.proof(), actors_alive=-1),
    "a negative uptime": lambda: replace(samples.proof(), uptime_s=-1),
    "no duration": lambda: replace(samples.proof(), last_restart_ms=float("nan")),
    "an endless duration": lambda: replace(samples.proof(), last_restart_ms=float("inf")),
    "message zero": lambda: replace(samples.message(), seq=0),
    "a blank message": lambda: replace(samples.message(), body=" \n"),
    "nobody's message": lambda: replace(samples.message(), author=""),
    "a message at no zone": lambda: replace(samples.message(), at=NOWHERE),
    "a message elsewhere": lambda: replace(samples.message(), at=ELSEWHERE),
    "one client id twice": lambda: replace(samples.chat(), demo_client_id=samples.chat().client_id),
    "incarnation zero": lambda: replace(samples.node("a"), incarnation=0),
    "a mailbox for nothing": lambda: replace(samples.node("a"), capacity=0),
    "a nameless actor": lambda: replace(samples.node("a"), name=" "),
    "a worker with children": lambda: Branch(samples.node("a"), (Branch(samples.node("b")),)),
    "a crash elsewhere": lambda: replace(samples.crash(), at=ELSEWHERE),
    "a first life after a crash": lambda: replace(samples.crash(), incarnation=1),
    "a budget below nothing": lambda: RestartWindow(-1, 3, 5.0),
    "an error page for success": lambda: ErrorView(200, "Fine", "It is.", element_id("a")),
    "a page without title": lambda: replace(samples.shell(), title=""),
}

UNSAFE: dict[str, Callable[[], object]] = {
    "message id": lambda: replace(samples.message(), id=MARKUP),
    "message id that is too long": lambda: replace(samples.message(), id=ElementId("x" * 60)),
    "node id": lambda: replace(samples.node("a"), id=MARKUP),
    "tab id": lambda: StreamView(MARKUP),
    "room": lambda: StreamView(element_id("a"), MARKUP),
    "client id": lambda: replace(samples.chat(), client_id=MARKUP),
    "nonce": lambda: replace(samples.shell(), nonce=Nonce("short")),
    "page": lambda: replace(samples.shell(), page=MARKUP),
    "navigation": lambda: NavLink(LocalPath("//evil"), "Evil"),
    "way back": lambda: replace(samples.error(), back=LocalPath("javascript:alert(1)")),
    "request id": lambda: ErrorView(404, "Gone", "It is.", MARKUP),
}


@pytest.mark.parametrize("make", IMPOSSIBLE.values(), ids=IMPOSSIBLE.keys())
def test_what_cannot_be_true_is_refused(make: Callable[[], object]) -> None:
    with pytest.raises(ImpossibleView):
        make()


@pytest.mark.parametrize("make", UNSAFE.values(), ids=UNSAFE.keys())
def test_what_may_not_enter_an_attribute_is_refused(make: Callable[[], object]) -> None:
    # SEC-61
    with pytest.raises(UnsafeAttribute):
        make()


def test_a_new_incarnation_glows_under_a_new_name() -> None:
    """The animation starts again only when its name changes."""
    lives = [replace(samples.node("a"), incarnation=number).rebirth for number in (1, 2, 3, 4)]
    assert lives == ["first-life", "reborn-even", "reborn-odd", "reborn-even"]


def test_utc_under_another_name_is_utc() -> None:
    same = datetime(2026, 11, 21, 8, 0, tzinfo=timezone(timedelta(0), "GMT"))
    assert replace(samples.message(), at=same).at == same.astimezone(UTC)


@pytest.mark.parametrize("name", ["", "Mail", "a b", "<b>", '"', "a" * 65])
def test_a_dependency_has_a_name_that_may_stand_in_an_attribute(name: str) -> None:
    with pytest.raises(UnsafeAttribute):
        samples.outside(name)
