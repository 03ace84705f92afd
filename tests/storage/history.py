"""What clients of a store called and were told, and whether one order of all calls explains it.

Each client appends values that exist once, and reads streams; each call is noted when it is
begun, and when it ended: done, refused (it must never be seen), or unknown. Because every value
names the call that wrote it, and a stream is only ever longer, a read tells the order of all writes
before it; so `faults` can look for a circle among the calls instead of trying out orders. (The
list-append check of Kingsbury and Alvaro, "Elle", VLDB 2020.)

Call A stands before call B when A had ended as B began, when B appended behind A in a stream, when
B read what A appended, and when A read a stream without what B appended.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from graphlib import CycleError, TopologicalSorter

Order = Mapping[str, Sequence[int]]


class Outcome(Enum):
    """What a client was told. A call that was cut short is unknown, for ever."""

    OK = "ok"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass
class Call:
    """One call: what it appended, or what it read; `ended` is None while nothing is known."""

    client: int
    begun: int
    appended: dict[str, list[int]] = field(default_factory=dict)
    read: dict[str, list[int]] = field(default_factory=dict)
    # Of each stream appended to, the version of its first event, where the store told it.
    versions: dict[str, int] = field(default_factory=dict)
    outcome: Outcome = Outcome.UNKNOWN
    ended: int | None = None


class History:
    """The calls of all clients of one process, in the order begun; its clock only counts."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._ticks = itertools.count()
        self._values = itertools.count(1)

    def begin(self, client: int, appending: Mapping[str, int] | None = None) -> Call:
        """Call this before a call, with how many values it appends to which stream."""
        appended = {
            stream: [next(self._values) for _ in range(count)]
            for stream, count in (appending or {}).items()
        }
        call = Call(client, next(self._ticks), appended)
        self.calls.append(call)
        return call

    def end(self, call: Call, outcome: Outcome) -> None:
        """Call this with what the client was told; not at all for a call that was cut short."""
        call.outcome, call.ended = outcome, next(self._ticks)

    def count(self, outcome: Outcome) -> int:
        """Call this for how many calls ended so."""
        return sum(call.outcome is outcome for call in self.calls)


def faults(calls: Sequence[Call], final: Order, log: Sequence[int]) -> list[str]:
    """Call this for all that no order explains; `final` and `log` are read when all is over.

    `final` is the content of each stream, `log` the values of all streams in the global order.
    """
    found = [*_of_values(calls, final), *_of_appends(calls, final), *_of_reads(calls, final)]
    found += _of_log(final, log)
    if found:
        return found  # a circle would only say it again, and less clearly
    return [*_circles(calls, final), *_circles_of_log(calls, log)]


def _written(calls: Iterable[Call]) -> dict[int, Call]:
    return {value: call for call in calls for values in call.appended.values() for value in values}


def _of_values(calls: Sequence[Call], final: Order) -> Iterator[str]:
    """Lost, doubled, and what nobody wrote or was refused."""
    times = Counter(value for values in final.values() for value in values)
    yield from (f"doubled: {value}" for value, count in times.items() if count > 1)
    written = _written(calls)
    for value in times:
        if value not in written:
            yield f"from nowhere: {value}"
        elif written[value].outcome is Outcome.REFUSED:
            yield f"refused, and there: {value}"
    for value, call in written.items():
        if call.outcome is Outcome.OK and value not in times:
            yield f"lost: {value}"


def _of_appends(calls: Sequence[Call], final: Order) -> Iterator[str]:
    """Half of a call, or not where the store said that it is."""
    for call in calls:
        places = {
            stream: _place(final.get(stream, ()), values)
            for stream, values in call.appended.items()
        }
        if len({place is None for place in places.values()}) > 1:
            yield f"half there: {call.appended}"
        for stream, place in places.items():
            values = call.appended[stream]
            if place is None:
                if set(values) & set(final.get(stream, ())):
                    yield f"torn: {values} of {stream}"
            elif call.versions.get(stream, place + 1) != place + 1:
                yield f"elsewhere: {values}, told {call.versions[stream]}, found at {place + 1}"


def _place(stored: Sequence[int], values: Sequence[int]) -> int | None:
    if values[0] not in stored:
        return None
    at = stored.index(values[0])
    return at if list(stored[at : at + len(values)]) == list(values) else None


def _of_reads(calls: Sequence[Call], final: Order) -> Iterator[str]:
    """A read that is not how the stream begins: reordered, taken back, or with a gap."""
    ends = {(stream, values[-1]) for call in calls for stream, values in call.appended.items()}
    for call in calls:
        for stream, values in call.read.items():
            if list(final.get(stream, ()))[: len(values)] != values:
                yield f"reordered: {values} was read of {stream}"
            elif values and (stream, values[-1]) not in ends:
                yield f"half read: {values[-1]} of {stream} is no end of a call"


def _of_log(final: Order, log: Sequence[int]) -> Iterator[str]:
    of = {value: stream for stream, values in final.items() for value in values}
    streams: dict[str, list[int]] = defaultdict(list)
    for value in log:
        streams[of.get(value, "")].append(value)
    for stream in {*final, *streams}:
        if streams.get(stream, []) != list(final.get(stream, ())):
            yield f"the global order has another {stream or 'value than is stored'}"


# Circles. A node is a call's index; a negative one is a moment, so that "ended before the other
# began" takes as many edges as there are calls, not its square.

_Before = dict[int, set[int]]


def _in_time(calls: Sequence[Call]) -> _Before:
    before: _Before = {}
    ends = sorted((call.ended, at) for at, call in enumerate(calls) if call.ended is not None)
    for number, (_, at) in enumerate(ends):
        before[-number - 1] = {at} if number == 0 else {at, -number}
    for at, call in enumerate(calls):
        earlier = sum(1 for ended, _ in ends if ended < call.begun)
        before[at] = {-earlier} if earlier else set()
    return before


def _circles(calls: Sequence[Call], final: Order) -> list[str]:
    before = _in_time(calls)
    written = {
        value: at
        for at, call in enumerate(calls)
        for values in call.appended.values()
        for value in values
    }
    for values in final.values():
        _chain(before, [written[value] for value in values])
    for at, call in enumerate(calls):
        for stream, values in call.read.items():
            if values:
                before[at].add(written[values[-1]])
            if len(values) < len(final.get(stream, ())):
                before[written[final[stream][len(values)]]].add(at)
    return _circle(calls, before, "of calls")


def _circles_of_log(calls: Sequence[Call], log: Sequence[int]) -> list[str]:
    """Apart from what was read: the order of the log is not the order of commits, but never
    against the order in time."""
    written = {id(call): at for at, call in enumerate(calls)}
    before = _in_time(calls)
    by_value = _written(calls)
    _chain(before, [written[id(by_value[value])] for value in log])
    return _circle(calls, before, "of the global order")


def _chain(before: _Before, nodes: Sequence[int]) -> None:
    for first, second in itertools.pairwise(nodes):
        if first != second:
            before[second].add(first)


def _circle(calls: Sequence[Call], before: _Before, what: str) -> list[str]:
    try:
        TopologicalSorter(before).prepare()
    except CycleError as error:
        nodes: list[int] = error.args[1]
        return [f"circle {what}: {[calls[node] for node in nodes if node >= 0]}"]
    return []
