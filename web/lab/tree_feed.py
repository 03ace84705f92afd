"""The feed of the supervision tree: what the lab's open streams see of the running system.

Rule 1: with nobody watching it looks at nothing.
Rule 2: several changes within a period are one patch: a page is sent at most five a second,
and only the rows that changed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from actors.runtime import Actor, message
from web.lab.views_changes import TreeChanges, changes
from web.realtime import (
    ElementPatchMode,
    Stream,
    joined,
    patch_elements,
    remove_elements,
)
from web.server import Frame
from web.views import Branch, CrashTarget, CrashView, Renderer, TreeView

# LAB-10: changed nodes at most five times a second, a status within 200 ms.
PERIOD_S = 0.2


@dataclass(frozen=True, slots=True)
class TreeSource:
    """Where the picture of the tree comes from."""

    root: Callable[[], Branch]
    crash: Callable[[], CrashView | None]
    target: Callable[[], CrashTarget | None]
    now: Callable[[], datetime]

    def view(self) -> TreeView:
        """Call this to get the whole panel as a page shows it first."""
        return TreeView(self.root(), self.now(), self.target(), self.crash())


@message
class TreeReaderJoined:
    """A stream shows the tree from now on."""

    stream: Stream


@message
class TreeReaderLeft:
    """A stream shows it no more."""

    stream: Stream


@message
class Look:
    """Time to see what changed."""


Messages = TreeReaderJoined | TreeReaderLeft | Look


class TreeFeed(Actor[Messages]):
    """Sends the tree to who watches it: whole at first, then what changes."""

    def __init__(self, source: TreeSource, renderer: Renderer, readers: dict[Stream, None]) -> None:
        self._source, self._renderer, self._readers = source, renderer, readers
        self._shown: Branch | None = None
        self._crash: CrashView | None = None

    def on_start(self) -> None:
        """Go on with the readers of an incarnation before: they are sent the whole tree."""
        if self._readers:
            self.after(PERIOD_S, Look(), key="look")

    def on_tree_reader_joined(self, message: TreeReaderJoined) -> None:
        """Send the whole tree at once, then what changes."""
        if not self._readers:
            self._shown, self._crash = self._source.root(), self._source.crash()
            self.after(PERIOD_S, Look(), key="look")
        self._readers[message.stream] = None
        root = self._shown or self._source.root()
        message.stream.put_panel("tree", self._tree_frame(root))
        if self._crash is not None:
            message.stream.put_panel("crash", self._crash_frame(self._crash))

    def on_tree_reader_left(self, message: TreeReaderLeft) -> None:
        """Send it nothing more."""
        self._readers.pop(message.stream, None)

    def on_look(self, _: Look) -> None:
        """Send what changed since the last look."""
        if not self._readers:
            self._shown = None
            return
        self.after(PERIOD_S, Look(), key="look")
        before, self._shown = self._shown, self._source.root()
        if before is None:
            self._send({"tree": self._tree_frame(self._shown)})
        else:
            self._send(self._patches(changes(before, self._shown)))
        crash = self._source.crash()
        if crash is not None and crash != self._crash:
            self._crash = crash
            self._send({"crash": self._crash_frame(crash)})

    def _send(self, panels: dict[str, Frame]) -> None:
        for stream in self._readers:
            for panel, frame in panels.items():
                stream.put_panel(panel, frame)

    def _patches(self, changed: TreeChanges) -> dict[str, Frame]:
        # Each node has a panel name of its own: for a reader that is behind, the newest state
        # of a node replaces the older one.
        if changed.whole is not None:
            return {"tree": self._tree_frame(changed.whole)}
        panels: dict[str, Frame] = {}
        for gone in changed.removed:
            panels[f"node-{gone}"] = joined([remove_elements(f"#node-{gone}")])
        for new in changed.added:
            html = self._renderer.tree_branch(new.branch, level=new.level)
            name = new.branch.node.id if isinstance(new.branch, Branch) else new.branch.id
            panels[f"node-{name}"] = joined(
                [patch_elements(html, selector=f"#kids-{new.parent}", mode=ElementPatchMode.APPEND)]
            )
        for row in changed.rows:
            panels[f"row-{row.id}"] = joined([patch_elements(self._renderer.tree_row(row))])
        return panels

    def _tree_frame(self, root: Branch) -> Frame:
        return joined([patch_elements(self._renderer.tree(root))])

    def _crash_frame(self, crash: CrashView) -> Frame:
        return joined([patch_elements(self._renderer.crash(crash))])
