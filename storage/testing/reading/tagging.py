"""What tags of events must do, and appends that depend on them, as tests. Fixture `store`."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
import trio

from actors.persistence import (
    START,
    TAGS_MAX,
    Appended,
    AppendRequest,
    Bookmark,
    ConcurrencyConflict,
    Condition,
    ConditionFailed,
    Cursor,
    CursorOutdated,
    EventStore,
    Idempotent,
    InvalidField,
    NewEvent,
    Query,
    StoredEvent,
    StreamId,
    Tagged,
)
from storage.testing.event_store import read_to_end
from storage.testing.samples import new_event, new_events, numbered

A, B = StreamId("joined-a"), StreamId("joined-b")

# The rule of the races: so many students in a course, so many courses for a student.
STUDENTS_MAX, COURSES_MAX = 3, 2


def joined(course: object, student: object, type: str = "Joined") -> NewEvent:  # noqa: A002
    """Call this for an event about a course and a student."""
    return new_event(type=type, tags=(f"course-{course}", f"student-{student}"))


async def everything(store: EventStore) -> list[StoredEvent]:
    """Call this for all events, in the order of the log."""
    return [event for page in await read_to_end(store) for event in page.events]


async def found(store: EventStore, query: Query, limit: int = 500) -> list[StoredEvent]:
    """Call this for all events of a query, page by page."""
    events: list[StoredEvent] = []
    page = await store.read_tagged(query, limit=limit)
    events += page.events
    while not page.is_last:
        page = await store.read_tagged(query, after=page.next, limit=limit)
        events += page.events
    return events


@dataclass
class Enrolments:
    """People who enrol students in courses, at the same time, as the rule allows."""

    store: EventStore
    is_careful: bool = True
    refused: int = 0
    numbers: list[int] = field(default_factory=list)

    async def look(self, course: int, student: int) -> Condition | None:
        """Read what there is; None when the rule allows no more."""
        of_course = Tagged((f"course-{course}",), ("Joined",))
        of_student = Tagged((f"student-{student}",), ("Joined",))
        query = [of_course, of_student]
        page = await self.store.read_tagged(query)
        assert page.is_last
        count = Counter(tag for event in page.events for tag in event.tags)
        if count[of_course.tags[0]] >= STUDENTS_MAX or count[of_student.tags[0]] >= COURSES_MAX:
            return None
        return Condition(query, page.next)

    async def enrol(self, course: int, student: int, condition: Condition) -> bool:
        """Append it if nothing came between."""
        self.numbers.append(len(self.numbers))
        stream = StreamId(f"joined-{self.numbers[-1]}")
        given = condition if self.is_careful else None
        try:
            await self.store.append(stream, [joined(course, student)], condition=given)
        except ConditionFailed:
            self.refused += 1
            return False
        return True

    async def all_at_once(self, pairs: Sequence[tuple[int, int]]) -> None:
        """Everybody looks, then everybody enrols: the worst that can happen."""
        seen = [(pair, await self.look(*pair)) for pair in pairs]
        async with trio.open_nursery() as nursery:
            for pair, condition in seen:
                if condition is not None:
                    nursery.start_soon(self.enrol, *pair, condition)

    async def try_hard(self, pairs: Sequence[tuple[int, int]]) -> None:
        """One of several who each look and enrol, and look again when somebody came between."""
        for pair in pairs:
            while (condition := await self.look(*pair)) is not None:
                if await self.enrol(*pair, condition):
                    break

    async def counts(self) -> Counter[str]:
        """How many events each tag has."""
        events = await everything(self.store)
        return Counter(tag for event in events for tag in event.tags)


def broken(counts: Counter[str]) -> list[str]:
    """Call this for the tags that break the rule."""
    most = {"course": STUDENTS_MAX, "student": COURSES_MAX}
    return [tag for tag, count in counts.items() if count > most[tag.partition("-")[0]]]


class TaggingSuite:
    """The conformance suite of `EventStore`: tags, and conditions on them."""

    async def test_tags_are_stored_with_their_event(self, store: EventStore) -> None:
        # STORE-7
        events = [joined(1, 1), new_event(), new_event(tags=["é ", "z", "a"])]
        await store.append(A, events, expected=0)
        expected = [("course-1", "student-1"), (), ("é ", "z", "a")]
        assert [event.tags async for event in store.load(A)] == expected
        assert [event.tags for event in (await store.read_all()).events] == expected
        again = await store.append(A, events)
        assert again.replayed
        assert [len(await found(store, [Tagged((tag,))])) for tag in ("z", "é ", "b")] == [1, 1, 0]

    async def test_a_query_finds_what_one_of_its_items_describes(self, store: EventStore) -> None:
        # STORE-7
        await store.append(A, [joined(1, 1), joined(1, 2, "Left"), new_event()])
        await store.append(B, [joined(2, 1), joined(1, 3)])
        events = await everything(store)
        one, left, _, other, last = events
        course, student = Tagged(("course-1",)), Tagged(("student-1",))
        for query, expected in (
            ([course], [one, left, last]),
            ([student, course], [one, left, other, last]),
            ([course, course], [one, left, last]),
            ([Tagged(("student-1", "course-1"))], [one]),
            ([Tagged(("course-1",), ("Left", "Moved"))], [left]),
            ([Tagged(("course-1",), ("Left",)), student], [one, left, other]),
            ([Tagged(("course-1", "nobody"))], []),
            ([Tagged(("course",))], []),
        ):
            for limit in (1, 2, 500):
                assert await found(store, query, limit) == expected, (query, limit)

    async def test_a_page_says_where_to_go_on(self, store: EventStore) -> None:
        # STORE-7
        query = [Tagged(("course-1",))]
        empty = await store.read_tagged(query)
        assert (list(empty.events), empty.next, empty.is_last) == ([], START, True)
        await store.append(A, [joined(1, n) for n in range(3)])
        page = await store.read_tagged(query, limit=2)
        assert (len(page.events), page.is_last) == (2, False)
        page = await store.read_tagged(query, after=page.next, limit=2)
        assert (len(page.events), page.is_last) == (1, True)
        rest = await store.read_tagged(query, after=page.next)
        assert (list(rest.events), rest.next, rest.is_last) == ([], page.next, True)
        whole = await store.read_tagged(query, limit=3)
        assert (len(whole.events), whole.is_last) == (3, True)

    async def test_a_condition_excludes_what_came_behind_it(self, store: EventStore) -> None:
        # STORE-8
        query = [Tagged(("course-1",), ("Joined",))]
        first = await store.append(A, [joined(1, 1)], condition=Condition(query))
        with pytest.raises(ConditionFailed) as caught:
            await store.append(B, [joined(1, 2)], condition=Condition(query))
        assert (caught.value.cursor, caught.value.stream_id) == (first.cursor, B)
        assert await store.head(B) == 0
        # What is of no item, or not behind the cursor, excludes nothing.
        at = Condition(query, (await store.read_tagged(query)).next)
        await store.append(A, [joined(1, 3, "Left"), joined(2, 1), new_event()])
        second = await store.append(B, [joined(1, 2)], condition=at)
        assert second.version == 1
        with pytest.raises(ConditionFailed) as caught:
            await store.append(B, new_events(1), condition=at)
        assert caught.value.cursor == second.cursor
        # The cursor that such an append came to is as good as one that was read.
        await store.append(B, new_events(1), condition=Condition(query, second.cursor))

    async def test_an_append_may_depend_on_tags_and_on_its_stream(self, store: EventStore) -> None:
        # STORE-8, STORE-10: the stream is told first
        query = [Tagged(("course-1",))]
        await store.append(A, [joined(1, 1)])
        with pytest.raises(ConcurrencyConflict):
            await store.append(A, new_events(1), expected=0, condition=Condition(query))
        with pytest.raises(ConditionFailed):
            await store.append(A, new_events(1), expected=1, condition=Condition(query))
        at = (await store.read_tagged(query)).next
        done = await store.append(
            A, [joined(1, 2), new_event()], expected=1, condition=Condition(query, at)
        )
        assert (done.first_version, done.version) == (2, 3)

    async def test_a_repeat_is_replayed_whatever_its_condition_says_now(
        self, store: EventStore
    ) -> None:
        # STORE-8, STORE-12, STORE-55: what it excludes may be itself
        query = [Tagged(("course-1",))]
        events = [joined(1, 1)]
        first = await store.append(A, events, condition=Condition(query))
        again = await store.append(A, events, condition=Condition(query))
        assert again == Appended(1, 1, first.cursor, replayed=True)
        key = Idempotent("joined", "k", b"h")
        at = Condition(query, first.cursor)
        kept = await store.append(B, [joined(1, 2)], condition=at, idempotency=key)
        again = await store.append(B, [joined(1, 2)], condition=at, idempotency=key)
        assert again == Appended(1, 1, kept.cursor, replayed=True)
        assert len(await found(store, query)) == 2

    async def test_a_place_of_another_lineage_is_refused(self, store: EventStore) -> None:
        # STORE-8, STORE-26: behind it nothing stands that is known
        query, events = [Tagged(("course-1",))], [joined(1, 1)]
        await store.append(A, events)
        page = await store.read_tagged(query)
        assert page.bookmark == Bookmark(await store.lineage(), page.next)
        other = Bookmark("other", page.next)
        with pytest.raises(CursorOutdated):
            await store.read_tagged(query, after=other)
        assert list((await store.read_tagged(query, after=page.bookmark)).events) == []
        with pytest.raises(CursorOutdated):
            await store.append(A, [joined(1, 2)], condition=Condition(query, other))
        again = await store.append(A, events, condition=Condition(query, other))
        assert again.replayed
        await store.append(A, [joined(1, 2)], condition=Condition(query, page.bookmark))
        with pytest.raises(ConditionFailed):
            await store.append(A, [joined(1, 3)], condition=Condition(query, page.bookmark))

    async def test_of_many_who_ask_for_none_one_wins(self, store: EventStore) -> None:
        # STORE-8: a name that is taken once
        query = [Tagged(("name-ann",))]
        results: list[str] = []

        async def take(number: int) -> None:
            event = new_event(event_id=numbered(number), tags=("name-ann",))
            try:
                await store.append(StreamId(f"user-{number}"), [event], condition=Condition(query))
                results.append("won")
            except ConditionFailed:
                results.append("lost")

        async with trio.open_nursery() as nursery:
            for number in range(12):
                nursery.start_soon(take, number)
        assert Counter(results) == {"won": 1, "lost": 11}

    async def test_a_rule_over_two_things_is_kept_by_a_condition_only(
        self, store: EventStore
    ) -> None:
        # STORE-8
        pairs = [(course, student) for course in range(2) for student in range(5)]
        careful = Enrolments(store)
        for _ in range(3):
            await careful.all_at_once(pairs)
        counts = await careful.counts()
        assert (broken(counts), careful.refused > 0) == ([], True)
        # The same without it: everybody sees that there is room, and takes it.
        careless = Enrolments(store, is_careful=False, numbers=careful.numbers)
        await careless.all_at_once([(7, 70 + student) for student in range(5)])
        assert broken(await careless.counts()) == ["course-7"]

    async def test_many_who_try_hard_fill_what_the_rule_allows(self, store: EventStore) -> None:
        # STORE-8: everybody who is refused looks again, and somebody always gets on
        drawn = random.Random(7)  # the same in every run
        one = Enrolments(store)
        async with trio.open_nursery() as nursery:
            for _ in range(6):
                pairs = [(drawn.randrange(3), drawn.randrange(6)) for _ in range(8)]
                nursery.start_soon(one.try_hard, pairs)
        counts = await one.counts()
        assert broken(counts) == []
        # Read one after the other, each append was allowed by what stood before it.
        so_far: Counter[str] = Counter()
        for event in await everything(store):
            so_far.update(event.tags)
            assert broken(so_far) == []

    async def test_a_cancelled_append_has_all_its_tags_or_none(self, store: EventStore) -> None:
        # STORE-8, STORE-18
        for number in range(8):
            with trio.move_on_after(number / 1000):
                await store.append(
                    StreamId(f"joined-{number}"),
                    [joined(1, number), joined(1, number + 1)],
                    condition=Condition([Tagged((f"student-{number}", "course-2"))]),
                )
        await store.append(A, [joined(1, 0), joined(1, 1)])
        events = await everything(store)
        assert await found(store, [Tagged(("course-1",))]) == events
        assert set(Counter(event.stream_id for event in events).values()) == {2}

    async def test_nonsense_about_tags_is_refused_before_any_input_or_output(
        self, store: EventStore
    ) -> None:
        # STORE-7, STORE-8, STORE-13
        many = [f"t{number}" for number in range(TAGS_MAX + 1)]
        for tags in ("text", ("",), ("a", "a"), (1,), ("\x00",), ("\ud800",), ("x" * 256,), many):
            with pytest.raises(InvalidField):
                new_event(tags=tags)  # type: ignore[arg-type]  # what is tested
            with pytest.raises(InvalidField):
                Tagged(tags)  # type: ignore[arg-type]  # what is tested
        with pytest.raises(InvalidField):
            Tagged(())
        with pytest.raises(InvalidField):
            Tagged(("a",), "Joined")
        halves = [Tagged(many[:40]), Tagged(many[30:])]
        for query in ([], Tagged(("a",)), ["a"], halves, [Tagged(("a",))] * 65):
            with pytest.raises(InvalidField):
                await store.read_tagged(query)  # type: ignore[arg-type]  # what is tested
            with pytest.raises(InvalidField):
                Condition(query)  # type: ignore[arg-type]  # what is tested
        with pytest.raises(InvalidField):
            Condition([Tagged(("a",))], Cursor(-1, 0))
        with pytest.raises(InvalidField):
            await store.read_tagged([Tagged(("a",))], limit=0)
        events = [new_event(tags=(tag,)) for tag in many]
        with pytest.raises(InvalidField, match="split it"):
            await store.append(A, events)
        with pytest.raises(InvalidField, match="split it"):
            await store.append(A, events[:40], condition=Condition([Tagged(many[-30:])]))
        for request in (
            AppendRequest(A, [joined(1, 1)]),
            AppendRequest(A, new_events(1), condition=Condition([Tagged(("a",))])),
        ):
            with pytest.raises(ValueError, match="plain"):
                await store.append_batch([request])
        assert await store.head(A) == 0
