"""What to patch when the tree has changed: single rows, so that no other row moves. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass

from web.views import Branch, CountView, ElementId, NodeView

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
