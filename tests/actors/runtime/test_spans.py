"""Spans: what took how long in one trace, recorded where it happens and joined by `traceparent`."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio
from trio.testing import MockClock

from actors.runtime import (
    Actor,
    Ask,
    AskError,
    Batch,
    Context,
    System,
    carried,
    current_context,
    edge_context,
    message,
    open_actors,
    span,
    span_of,
    tell_past,
)
from actors.runtime.delivery.span import NO_SPAN
from actors.runtime.telling.spans import (
    KEPT_MAX,
    KEPT_S,
    Record,
    SpanRead,
    Spans,
    Value,
    is_sampled,
    root_of,
)
from actors.runtime.words.counting import Level
from actors.testing import AsyncPuppet, Call, Do, Puppet
from tests.patience import until

TRACE = "0af7651916cd43dd8448eb211c80319c"
FROM_OUTSIDE = f"00-{TRACE}-b7ad6b7169203331-01"


def traced(correlation: str = "c-1") -> Context:
    return Context(correlation, traceparent=FROM_OUTSIDE)


def read(system: System) -> list[SpanRead]:
    return [system.trace().read(one) for one in system.trace().ring]


def above(spans: Sequence[SpanRead], name: str) -> list[str]:
    """The names from a span up to the root."""
    by_id = {one.span: one for one in spans}
    found = [one for one in spans if one.name == name]
    assert len(found) == 1
    at, names = found[0], [name]
    while at.parent in by_id:
        at = by_id[at.parent]
        names.append(at.path.rpartition("/")[2] if at.name == "actor.handle" else at.name)
    assert at.parent == "b7ad6b7169203331"
    return names


async def test_what_a_request_leads_to_is_one_tree() -> None:  # OBS-3
    async with open_actors() as system:
        system.trace()
        last = await system.start(Puppet, name="last")
        first = await system.start(AsyncPuppet, name="first")

        async def work(me: object) -> None:
            with span("store.append", stream="room-lobby", events=2) as told:
                told.note(version=7)
                # What is sent inside has it as its cause.
                await last.ask(Call(lambda me: None))
            last.tell(Do(lambda me: None))

        with edge_context(traced()):
            await first.ask(Call(work))
        await last.ask(Call(lambda me: None))  # of no trace: told of by nobody
        spans = read(system)
        assert {one.trace for one in spans} == {TRACE}
        assert {one.correlation_id for one in spans} == {"c-1"}
        assert above(spans, "store.append") == ["store.append", "first"]
        by_id = {one.span: one for one in spans}
        asked, told = (one for one in spans if one.path == "last")
        assert (by_id[asked.parent].name, by_id[told.parent].path) == ("store.append", "first")
        stored = next(one for one in spans if one.name == "store.append")
        assert stored.fields == (("stream", "room-lobby"), ("events", 2), ("version", 7))
        assert all(one.ended >= one.began for one in spans)
        assert len(spans) == len(by_id) == 4


class Taker(Actor[Do]):
    async def on_batch(self, batch: Batch[Do]) -> None:
        """Take what there is together."""


@pytest.mark.parametrize("cls", [Puppet, AsyncPuppet, Taker])
async def test_a_handler_tells_how_long_its_message_was_queued_where_times_are_taken(
    cls: type[Actor[Do]],
) -> None:
    # OBS-7: what its bucket counts, message by message
    async with open_actors() as system:
        system.trace()
        ref = await system.start(cls, name="one")
        told: list[dict[str, Value]] = []
        levels: tuple[Level, ...] = ("counters", "full")
        for level in levels:
            system.measure_all(level)
            system.trace().ring.clear()
            with edge_context(traced()):
                for _ in range(3):
                    ref.tell(Do(lambda me: None))
            await until(lambda: len(system.trace().ring) == 3)
            told = [dict(one.fields) for one in read(system)]
            assert all(("queued_ms" in one) is (level == "full") for one in told)
        cell = system.at("one")
        assert cell is not None
        assert cell.meter is not None
        assert sum(cell.meter.queue_us) == 3
        waits = [float(one["queued_ms"] or 0) for one in told]
        assert 1000 * cell.meter.waited_seconds == pytest.approx(sum(waits), abs=0.002)


async def test_stretches_that_send_nothing_stand_where_those_that_do_stand() -> None:  # OBS-3
    async with open_actors() as system:
        system.trace()
        last = await system.start(Puppet, name="last")

        async def work(me: object) -> None:
            with span("effect.out"):
                with span("effect.quiet"):
                    pass
                with span("effect.loud"), span("effect.deep"):
                    seen = current_context()
                    assert seen is current_context(), "made once"
                    last.tell(Do(lambda me: None))
                with span("effect.later"):
                    pass
            with span("effect.behind"):
                pass
            seen = current_context()
            assert seen is not None
            assert seen.sender == "first"

        first = await system.start(AsyncPuppet, name="first")
        with edge_context(traced()):
            await first.ask(Call(work))
        await last.stop()
        spans = read(system)
        assert above(spans, "effect.quiet") == ["effect.quiet", "effect.out", "first"]
        assert above(spans, "effect.deep") == ["effect.deep", "effect.loud", "effect.out", "first"]
        assert above(spans, "effect.later") == ["effect.later", "effect.out", "first"]
        assert above(spans, "effect.behind") == ["effect.behind", "first"]
        told = next(one for one in spans if one.path == "last")
        assert told.parent == next(one.span for one in spans if one.name == "effect.deep")


async def test_a_stretch_is_the_cause_in_a_thread_and_in_a_task_too() -> None:  # OBS-3
    async with open_actors() as system:
        system.trace()
        last = await system.start(Puppet, name="last")

        async def work(me: object) -> None:
            with span("effect.outside"):
                await trio.to_thread.run_sync(lambda: system.portal.send(last, Do(lambda me: None)))
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(inside)

        async def inside() -> None:
            last.tell(Do(lambda me: None))

        first = await system.start(AsyncPuppet, name="first")
        with edge_context(traced()):
            await first.ask(Call(work))
        await last.stop()
        spans = read(system)
        stretch = next(one.span for one in spans if one.name == "effect.outside")
        assert [one.parent for one in spans if one.path == "last"] == [stretch] * 2


class Gathering(Actor[Do]):
    """Takes what waits together."""

    async def on_do(self, some: Batch[Do]) -> None:
        for one in some:
            one.done()


async def test_messages_that_are_handled_together_are_told_each_in_its_own_trace() -> None:
    # OBS-3
    other = FROM_OUTSIDE.replace(TRACE, "1" * 32)
    async with open_actors() as system:
        system.trace()
        ref = await system.start(Gathering)
        for trace in (FROM_OUTSIDE, other, None):
            with edge_context(Context("c", traceparent=trace)):
                ref.tell(Do(lambda me: None))
        await ref.stop()
        assert sorted(one.trace for one in read(system)) == [TRACE, "1" * 32]


async def test_a_span_inside_changes_nothing_but_what_is_sent() -> None:  # OBS-3
    seen: list[str | None] = []

    def look() -> None:
        context = current_context()
        seen.append(None if context is None else context.traceparent)

    def looked() -> KeyError:
        look()
        return KeyError("hunter2")

    async with open_actors() as system:
        system.trace()

        async def work(me: Puppet | AsyncPuppet) -> None:
            look()
            with pytest.raises(KeyError), span("effect.one"):
                raise looked()
            look()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(inside)
                nursery.start_soon(inside)
            look()
            assert me.remaining() > 0

        async def inside() -> None:
            with span("effect.child"):
                look()
                await trio.lowlevel.checkpoint()
            look()

        ref = await system.start(AsyncPuppet)
        with edge_context(traced()):
            await ref.ask(Call(work))
        own, in_span, *rest = seen
        assert own != in_span
        # Each child has a span of its own, and the handler's own cause before and behind it.
        assert rest.count(own) == 4
        assert len(set(rest) - {own, in_span}) == 2
        spans = read(system)
        assert [one.error for one in spans if one.name == "effect.one"] == ["KeyError"]
        assert "hunter2" not in repr(spans)


async def test_what_goes_wrong_is_told_with_its_span(autojump_clock: MockClock) -> None:  # OBS-4
    async with open_actors() as system:
        system.trace()

        def fails(me: object) -> None:
            raise ValueError("hunter2")

        async def waits(me: object) -> None:
            await trio.sleep(2)

        for name, work in (("bug", fails), ("late", waits)):
            ref = await system.start(AsyncPuppet, name=name)
            with edge_context(traced()), pytest.raises(AskError):
                await ref.ask(Call(work), timeout=1)
            if name == "late":
                with edge_context(traced()):
                    ref.tell(Do(lambda me: None), deadline=trio.current_time() + 0.5)
                await trio.testing.wait_all_tasks_blocked()
                await trio.sleep(5)
        spans = read(system)
        found = {(one.name, one.path, one.error) for one in spans}
        assert ("actor.handle", "bug", "ValueError") in found
        assert ("dead.letter", "bug", "crashed") in found
        assert ("actor.handle", "late", "deadline") in found
        assert ("dead.letter", "late", "deadline") in found
        assert len(spans) == 4, "one that no handler was called for has no span of one"
        assert "hunter2" not in repr(spans)
        late = next(one for one in spans if (one.name, one.path) == ("actor.handle", "late"))
        assert late.took_s == 2


class _Refusal(Exception):
    is_refusal = True


async def test_a_refusal_is_told_as_one_and_is_no_failure() -> None:  # OBS-4
    async with open_actors() as system:
        system.trace()

        async def refuses(me: Puppet | AsyncPuppet) -> None:
            with pytest.raises(_Refusal), span("effect.one", size=1):
                raise _Refusal("hunter2")

        ref = await system.start(AsyncPuppet)
        with edge_context(traced()):
            await ref.ask(Call(refuses))
        told = next(one for one in read(system) if one.name == "effect.one")
        assert not told.error
        assert dict(told.fields) == {"size": 1, "refused": "_Refusal"}


async def test_what_was_stored_goes_on_with_its_trace() -> None:  # OBS-3
    kept = {"traceparent": FROM_OUTSIDE, "correlation_id": "c-9", "causation_id": "7"}
    async with open_actors() as system:
        system.trace()
        last = await system.start(Puppet, name="last")

        async def relay(me: object) -> None:
            with span_of("outbox.send", kept, attempt=1):
                last.tell(Do(lambda me: None))
            with span_of("outbox.send", {"traceparent": "nonsense"}) as told:
                assert not told.is_told
            tell_past("projection.apply", [kept, kept, {}], trio.current_time())

        ref = await system.start(AsyncPuppet, name="relay")
        await ref.ask(Call(relay))
        await last.ask(Call(lambda me: None))
        spans = read(system)
        assert above([one for one in spans if one.path == "relay"], "outbox.send")
        handled = next(one for one in spans if one.path == "last")
        sent = next(one for one in spans if one.name == "outbox.send")
        assert (handled.parent, handled.correlation_id) == (sent.span, "c-9")
        assert [one.name for one in spans].count("projection.apply") == 1
        assert len(spans) == 3


@pytest.mark.parametrize("is_child", [False, True])
async def test_what_was_stored_goes_on_in_its_name_where_nobody_records(
    is_child: bool,
) -> None:  # CORE-31
    kept = {"correlation_id": "c-9", "causation_id": "of-another-7", "user_id": "ann"}
    seen: list[Context | None] = []

    async def relay(me: object) -> None:
        before = current_context()
        for one in (
            {**kept, "traceparent": FROM_OUTSIDE},
            {**kept, "traceparent": "nonsense", "tenant": "t"},
            {"traceparent": FROM_OUTSIDE, "correlation_id": "no\nid"},
        ):
            with span_of("outbox.send", one):
                seen.append(current_context())
            with carried(one):
                assert one["correlation_id"] != "c-9" or current_context() == seen[-1]
            assert current_context() == before
        for none in ({}, {"correlation_id": "x" * 65}, {"traceparent": "nonsense"}):
            with span_of("outbox.send", none), carried(none):
                assert current_context() == before

    async with open_actors() as system:
        ref = await system.start(AsyncPuppet, name="relay")
        done = trio.Event()

        async def child(me: Puppet | AsyncPuppet) -> None:
            await relay(me)
            done.set()

        async def starts(me: Puppet | AsyncPuppet) -> None:
            me.start_soon(child, me)

        await ref.ask(Call(starts if is_child else child))
        await done.wait()
    first, second, third = [one for one in seen if one is not None]
    same = ("c-9", "of-another-7", "ann")
    assert (first.correlation_id, first.causation_id, first.user_id) == same
    assert first.traceparent == FROM_OUTSIDE
    assert (second.correlation_id, second.traceparent, second.tenant) == ("c-9", None, "t")
    assert third.correlation_id.startswith(f"{system.id}-")
    # Outside of all actors too: a member of a group may run in a task of one's own.
    with span_of("bus.handle", kept), carried({"correlation_id": "c-10"}):
        assert (current_context() or first).correlation_id == "c-10"
    assert current_context() is None


async def test_without_somebody_who_reads_nothing_is_recorded() -> None:  # OBS-2
    async with open_actors() as system:
        ref = await system.start(Puppet)

        def work(me: object) -> None:
            assert span("store.append") is NO_SPAN

        with edge_context(traced()):
            await ref.ask(Call(work))
            assert span("store.append") is NO_SPAN, "nor outside of all actors"
        assert system.spans is None


def test_the_ring_is_bounded_by_number_and_by_age() -> None:  # OBS-4
    spans = Spans(lambda number, actor: f"{number}{actor}", lambda: 0.0)

    def one(at: float) -> Record:
        return ("n", root_of(TRACE), "s", None, 0, at, at, "", "", "", None)

    last = one(0)
    spans.add(last)
    for number in range(KEPT_MAX + 4):
        spans.add(one(float(number >= KEPT_MAX)))
    assert (len(spans.ring), spans.lost) == (KEPT_MAX, 5)
    assert len(spans.since(last)) == KEPT_MAX, "it has left: all that is there is new"
    assert len(spans.since(spans.ring[-3])) == 2
    spans.forget_old(KEPT_S + 0.5)
    assert len(spans.ring) == 4


def test_one_trace_of_ten_is_kept_by_its_id() -> None:  # OBS-4
    traces = [f"{number:032x}" for number in range(1, 1001)]
    assert sum(map(is_sampled, traces)) == 100
    for trace in traces:
        assert root_of(trace).endswith("-01") is is_sampled(trace)


def test_an_id_is_cut_and_a_name_of_one_too() -> None:  # OBS-3
    spans = Spans(lambda number, actor: "5" * 16, lambda: 0.0)
    person = "0f3e4b5a-1111-4222-8333-944445555666"
    fields: dict[str, Value] = {
        "stream": f"@acme/account-{person}",
        "saga": "checkout-alice@example.org",
        "n": 1,
    }
    found = spans.read(
        ("n", root_of(TRACE), 1, None, 2, 0.0, 1.0, f"site/sessions/{person}", "c", "", fields)
    )
    assert found.path == "site/sessions/0f3e4b5a…"
    assert person[9:] not in repr(found)
    assert "alice@example.org" not in repr(found)
    assert (found.parent, found.trace) == ("", TRACE)


@message
class Ping(Ask[int]):
    """Wants a number."""


class Answering(Actor[Ping]):
    """Answers in its own turn, on the dispatcher."""

    def on_ping(self, _: Ping) -> int:
        return 1


@pytest.mark.parametrize("level", ["off", "sampled", "full"])
async def test_every_road_of_a_message_is_told(level: str) -> None:  # OBS-3
    async with open_actors() as system:
        system.trace()
        if level != "off":
            system.measure_all("full" if level == "full" else "sampled")
        ref = await system.start(Answering)
        for number in range(5):
            with edge_context(traced(f"c-{number}")):
                assert await ref.ask(Ping()) == 1
                ref.tell(Ping())
                ref.tell(Ping())
            ref.tell(Ping())
        await ref.ask(Ping())
        assert system.stats(ref).handled == 21
        assert [one.correlation_id for one in read(system)] == [
            f"c-{number}" for number in range(5) for _ in range(3)
        ]
