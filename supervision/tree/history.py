"""The tree as it was: a bounded ring of changes from which any moment of it can be rebuilt.

A `TreeHistory` is a sink of `Tree.watch`. It keeps one snapshot, the oldest moment, and the
changes since; when the ring is full the oldest change moves into the snapshot.

Rule: what `at` gives for a moment equals the snapshot taken at that moment, but for the figures
that change without a step of life (queue depth, used budget): those are as of the last step.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from supervision.tree.tree import Node, Tree, TreeChange, TreeSnapshot

# A quarter of an hour of a lively lab, a few megabytes.
HISTORY_MAX: Final = 20_000


class TreeHistory:
    """The changes of a tree, or of the part below a path, and the states between them.

    ```python
    history = TreeHistory()
    with history.record(app.tree):
        ...
        before = history.at(trio.current_time() - 60)
    ```
    """

    def __init__(self, limit: int = HISTORY_MAX, under: str | None = None) -> None:
        if limit < 1:
            raise ValueError(f"limit is {limit!r}; it must be at least 1")
        self._limit, self._under = limit, under
        self._epoch = ""
        self._seq = 0
        self._since = 0.0
        self._oldest: dict[str, Node] = {}
        self._changes: deque[TreeChange] = deque()

    def __repr__(self) -> str:
        return f"<TreeHistory: {len(self._changes)} changes since {self._since:.3f}>"

    @property
    def since(self) -> float:
        """The oldest moment that can be rebuilt."""
        return self._since

    @property
    def changes(self) -> tuple[TreeChange, ...]:
        """The changes kept, oldest first."""
        return tuple(self._changes)

    @contextmanager
    def record(self, tree: Tree) -> Iterator[None]:
        """Call this to keep the tree's changes for as long as the block runs."""
        with tree.watch(self) as snapshot:
            self._epoch, self._seq, self._since = snapshot.epoch, snapshot.seq, snapshot.at
            self._changes.clear()
            self._oldest = {node.path: node for node in snapshot.actors if self._covers(node.path)}
            yield

    def changed(self, change: TreeChange) -> None:
        """Called by the tree for each change."""
        if not self._covers(change.path):
            return
        self._changes.append(change)
        # The oldest moment moves on: what left the ring is true of it from now on.
        if len(self._changes) > self._limit:
            oldest = self._changes.popleft()
            _apply(self._oldest, oldest)
            self._seq, self._since = oldest.seq, oldest.at

    def at(self, moment: float) -> TreeSnapshot:
        """Call this for the tree as it stood at a moment, all changes up to it included.

        Raises `ValueError` for a moment before `since`: it is not kept any more.
        """
        if moment < self._since:
            raise ValueError(f"the tree is kept since {self._since:.3f}; {moment:.3f} is too early")
        nodes, seq = dict(self._oldest), self._seq
        for change in self._changes:
            if change.at > moment:
                break
            _apply(nodes, change)
            seq = change.seq
        return TreeSnapshot(self._epoch, seq, moment, tuple(nodes.values()))

    def _covers(self, path: str) -> bool:
        under = self._under
        return under is None or path == under or path.startswith(under + "/")


def _apply(nodes: dict[str, Node], change: TreeChange) -> None:
    if change.node is None:
        nodes.pop(change.path, None)
    else:
        nodes[change.path] = change.node
