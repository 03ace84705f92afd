"""Facts about actors become the tree that the lab shows, and two trees the patch between them.

Pure: no runtime, no clock. The facts are counted by the runtime and handed in
(`tree/picture.py`); what is sent of them is told by `tree/feed.py`; how a row looks, by the
templates of `web.views`. `changes` patches single rows, so that no other row moves on a page.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from web.views import (
    ActorStatus,
    Branch,
    CountView,
    CrashTarget,
    CrashView,
    ElementId,
    ImpossibleView,
    LastedView,
    NodesView,
    NodeView,
    StrategyBadge,
    element_id,
)

# More rows of one kind tell a reader nothing that their number does not tell.
SAME_KIND_MAX = 12
# An exit's words are one line of a row; the whole error is in the crash report.
EXIT_WORDS_MAX = 160


@dataclass(frozen=True, slots=True)
class ActorFacts:
    """What is known of one actor at one moment: its row, and the id of the one above it."""

    supervisor: str | None
    row: NodeView


@dataclass(frozen=True, slots=True)
class TreeFacts:
    """The tree at one moment, what a visitor may crash in it, its newest crash, all survived.

    `nodes` are those that serve the site together; None where it is served by one process.
    """

    root: Branch
    target: CrashTarget | None
    crash: CrashView | None
    lasted: LastedView | None = None
    nodes: NodesView | None = None


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
    row = fact.row
    below = known.children.get(row.id, [])
    together = _kinds_shown_as_numbers(row, below, known.counted)
    shown: list[Branch | CountView] = [
        _branch(child, known) for child in below if child.row.kind not in together
    ]
    alive = Counter(
        child.row.kind for child in below if child.row.status is not ActorStatus.STOPPED
    )
    numbers = [(kind, alive[kind]) for kind in together]
    numbers += [(one.kind, one.count) for one in known.crowds if one.supervisor == row.id]
    shown += [CountView(_count_id(row, kind), kind, number) for kind, number in numbers]
    return Branch(row, tuple(shown))


def _kinds_shown_as_numbers(
    parent: NodeView, below: Sequence[ActorFacts], counted: frozenset[str]
) -> tuple[str, ...]:
    numbers = Counter(child.row.kind for child in below)
    is_dynamic = parent.strategy is StrategyBadge.DYNAMIC
    return tuple(
        kind
        for kind, number in numbers.items()
        if kind in counted or (is_dynamic and number > SAME_KIND_MAX)
    )


def _count_id(parent: NodeView, kind: str) -> ElementId:
    letters = "".join(sign if sign.isascii() and sign.isalnum() else "-" for sign in kind)
    # Cut, for `node-` stands before it on the page, and an id has 64 characters at most.
    return element_id(f"{parent.id}-{letters}"[:59])


# -- what to patch when the tree has changed ----------------------------------------------------

_ROOT_LEVEL = 1


@dataclass(frozen=True, slots=True)
class NewBranch:
    """A branch that is appended below `parent`; `level` counts from 1 for the root."""

    parent: ElementId
    branch: Branch | CountView
    level: int


@dataclass(frozen=True, slots=True)
class TreeChanges:
    """The smallest patch from one tree to another. If `whole` is set, the rest is empty."""

    rows: tuple[NodeView | CountView, ...] = ()
    added: tuple[NewBranch, ...] = ()
    removed: tuple[ElementId, ...] = ()
    whole: Branch | None = None

    def __bool__(self) -> bool:
        """Whether there is anything to send."""
        return bool(self.rows or self.added or self.removed or self.whole)


@dataclass(frozen=True, slots=True)
class _Place:
    row: NodeView | CountView
    branch: Branch | CountView
    parent: ElementId | None
    level: int


def changes(before: Branch, after: Branch) -> TreeChanges:
    """Call this to get what turns a page showing `before` into one showing `after`.

    A move, a new row between old ones, or another root cannot be told by single rows: then
    `whole` is the tree to send.
    """
    # A new node comes with all below it and is appended at the end; a gone one takes all below it
    # away. So only the uppermost of each is told, and any order but "new ones last" needs `whole`.
    old = {place.row.id: place for place in _places(before, None, _ROOT_LEVEL)}
    new = {place.row.id: place for place in _places(after, None, _ROOT_LEVEL)}
    if before.node.id != after.node.id or not _is_patchable(old, new):
        return TreeChanges(whole=after)
    return TreeChanges(
        rows=tuple(place.row for key, place in new.items() if key in old and _is_other(place, old)),
        added=tuple(
            NewBranch(place.parent, place.branch, place.level)
            for key, place in new.items()
            if key not in old and place.parent is not None and place.parent in old
        ),
        removed=tuple(
            key
            for key, place in old.items()
            if key not in new and (place.parent is None or place.parent in new)
        ),
    )


def changes_since(before: Branch, between: Sequence[Branch], after: Branch) -> TreeChanges:
    """Call this for a page that showed `before` and may have been sent any of what came since.

    Gives every row that was another one at any time since `before`, as it is in `after`. If a node
    came and went, or went and came, it cannot be known what the page shows: then it is `whole`.
    """
    last = changes(before, after)
    if last.whole is not None:
        return last
    touched = {row.id for row in last.rows}
    for tree in between:
        found = changes(before, tree)
        is_known = set(found.removed) <= set(last.removed) and (
            {_id_of(new) for new in found.added} <= {_id_of(new) for new in last.added}
        )
        if found.whole is not None or not is_known:
            return TreeChanges(whole=after)
        touched.update(row.id for row in found.rows)
    there = {place.row.id for place in _places(before, None, _ROOT_LEVEL)}
    rows = [place.row for place in _places(after, None, _ROOT_LEVEL)]
    return replace(last, rows=tuple(row for row in rows if row.id in touched & there))


def branch_of(root: Branch, node: ElementId) -> Branch:
    """Call this to find a supervisor and what is below it; raises KeyError when it is not there."""
    for place in _places(root, None, _ROOT_LEVEL):
        if place.row.id == node and isinstance(place.branch, Branch):
            return place.branch
    raise KeyError(node)


def _id_of(new: NewBranch) -> ElementId:
    return new.branch.node.id if isinstance(new.branch, Branch) else new.branch.id


def _places(item: Branch | CountView, parent: ElementId | None, level: int) -> Iterator[_Place]:
    if isinstance(item, CountView):
        yield _Place(item, item, parent, level)
        return
    yield _Place(item.node, item, parent, level)
    for child in item.children:
        yield from _places(child, item.node.id, level + 1)


def _is_other(place: _Place, old: dict[ElementId, _Place]) -> bool:
    return place.row != old[place.row.id].row


def _is_patchable(old: dict[ElementId, _Place], new: dict[ElementId, _Place]) -> bool:
    kept = [key for key in old if key in new]
    return all(_is_same_element(old[key], new[key]) for key in kept) and all(
        _keeps_order(old[key], new[key], old) for key in kept
    )


def _is_same_element(old: _Place, new: _Place) -> bool:
    # A supervisor's element has a list below its row, a worker's and a number's have none.
    return old.parent == new.parent and _has_list(old.row) == _has_list(new.row)


def _has_list(row: NodeView | CountView) -> bool:
    return isinstance(row, NodeView) and row.strategy is not None


def _keeps_order(before: _Place, after: _Place, old: dict[ElementId, _Place]) -> bool:
    left, right = _children(before), _children(after)
    stayed = [key for key in left if key in right]
    return right == stayed + [key for key in right if key not in old]


def _children(place: _Place) -> list[ElementId]:
    if isinstance(place.branch, CountView):
        return []
    return [
        child.id if isinstance(child, CountView) else child.node.id
        for child in place.branch.children
    ]
