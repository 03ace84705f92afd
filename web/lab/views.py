"""Facts about actors become the tree that the lab shows. Pure: no runtime, no clock.

The facts are counted by the runtime and handed in; what to patch when they change is
decided in `views_changes.py`; how a row looks is told by the templates of `web.views`.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from web.views import (
    ActorStatus,
    Branch,
    CountView,
    ElementId,
    ImpossibleView,
    NodeView,
    RestartWindow,
    StrategyBadge,
    element_id,
)

# More rows of one kind tell a reader nothing that their number does not tell.
SAME_KIND_MAX = 12
# An exit's words are one line of a row; the whole error is in the crash report.
EXIT_WORDS_MAX = 160


@dataclass(frozen=True, slots=True)
class ActorFacts:
    """What is known of one actor at one moment; `supervisor` is the id of the one above it.

    `queued` counts user messages; `capacity` None is a mailbox without limit. `strategy` is
    None for an actor that supervises nobody.
    """

    id: str
    supervisor: str | None
    name: str
    kind: str
    status: ActorStatus
    incarnation: int
    restarts: int
    queued: int
    capacity: int | None = None
    strategy: StrategyBadge | None = None
    window: RestartWindow | None = None
    last_exit: str | None = None


@dataclass(frozen=True, slots=True)
class Crowd:
    """Children that are only counted: how many of a kind are below a supervisor's id."""

    supervisor: str
    kind: str
    count: int


def tree_of(
    facts: Sequence[ActorFacts],
    *,
    counted: frozenset[str] = frozenset(),
    crowds: Sequence[Crowd] = (),
) -> Branch:
    """Call this to get the tree of `facts`, children in the order given.

    Kinds in `counted` are always shown as a number, never one by one: their names belong to
    visitors; `crowds` were counted already. Other children of one kind are, when a dynamic
    supervisor has too many of them. Raises `ImpossibleView` unless exactly one actor has no
    supervisor; facts whose supervisor is unknown are left out, for it has just ended.
    """
    roots = [fact for fact in facts if fact.supervisor is None]
    if len(roots) != 1:
        raise ImpossibleView("roots", len(roots), "exactly one")
    children: dict[str, list[ActorFacts]] = {}
    for fact in facts:
        if fact.supervisor is not None:
            children.setdefault(fact.supervisor, []).append(fact)
    return _branch(roots[0], _Below(children, counted, crowds))


def exit_words(kind: str, error: str | None, message: str | None, info: str | None) -> str:
    """Call this to tell an exit (the fields of its JSON form) in one short line."""
    told = [text for text in (error, message, info) if text]
    words = ": ".join([kind, *told])
    return words if len(words) <= EXIT_WORDS_MAX else words[: EXIT_WORDS_MAX - 1] + "…"


@dataclass(frozen=True, slots=True)
class _Below:
    children: dict[str, list[ActorFacts]]
    counted: frozenset[str]
    crowds: Sequence[Crowd]


def _branch(fact: ActorFacts, known: _Below) -> Branch:
    below = known.children.get(fact.id, [])
    together = _kinds_shown_as_numbers(fact, below, known.counted)
    shown: list[Branch | CountView] = [
        _branch(child, known) for child in below if child.kind not in together
    ]
    alive = Counter(child.kind for child in below if child.status is not ActorStatus.STOPPED)
    numbers = [(kind, alive[kind]) for kind in together]
    numbers += [(one.kind, one.count) for one in known.crowds if one.supervisor == fact.id]
    shown += [CountView(_count_id(fact, kind), kind, number) for kind, number in numbers]
    return Branch(_row(fact), tuple(shown))


def _kinds_shown_as_numbers(
    parent: ActorFacts, below: Sequence[ActorFacts], counted: frozenset[str]
) -> tuple[str, ...]:
    numbers = Counter(child.kind for child in below)
    is_dynamic = parent.strategy is StrategyBadge.DYNAMIC
    return tuple(
        kind
        for kind, number in numbers.items()
        if kind in counted or (is_dynamic and number > SAME_KIND_MAX)
    )


def _count_id(parent: ActorFacts, kind: str) -> ElementId:
    letters = "".join(sign if sign.isascii() and sign.isalnum() else "-" for sign in kind)
    return element_id(f"{parent.id}-{letters}"[:59])


def _row(fact: ActorFacts) -> NodeView:
    return NodeView(
        id=element_id(fact.id),
        name=fact.name,
        kind=fact.kind,
        status=fact.status,
        incarnation=fact.incarnation,
        restarts=fact.restarts,
        queued=fact.queued,
        capacity=fact.capacity,
        strategy=fact.strategy,
        window=fact.window,
        last_exit=fact.last_exit,
    )
