"""The feed of the supervision tree: what the lab's open streams see of the running system.

Rule 1: with nobody watching it looks at nothing.
Rule 2: several changes within a period are one patch: a page is sent at most five a second,
and only the rows that changed.
"""

from collections.abc import Callable
from datetime import datetime

import trio

from actors.runtime import Actor, message
from web.lab.views import TreeChanges, TreeFacts, changes
from web.realtime import (
    Arrivals,
    Audience,
    ElementPatchMode,
    Stream,
    joined,
    patch_elements,
    remove_elements,
)
from web.server import Frame
from web.views import Branch, CrashView, Renderer, TreeView

# LAB-10: changed nodes at most five times a second, a status within 200 ms.
PERIOD_S = 0.2


class TreeSource:
    """Where the picture of the tree comes from."""

    def __init__(self, read: Callable[[], TreeFacts], now: Callable[[], datetime]) -> None:
        self.read, self._now = read, now
        self._kept: tuple[float, TreeView] | None = None

    def view(self) -> TreeView:
        """Call this to get the whole panel as a page shows it first.

        It may be as old as what an open page shows, and is corrected by the page's stream: however
        many pages load, the tree is drawn no more often than for one that is open.
        """
        at = trio.current_time()
        if self._kept is None or at - self._kept[0] >= PERIOD_S:
            facts = self.read()
            self._kept = at, TreeView(facts.root, self._now(), facts.target, facts.crash)
        return self._kept[1]


@message
class Look:
    """Time to see what changed."""


Messages = Arrivals | Look


class TreeFeed(Actor[Messages]):
    """Sends the tree to who watches it: whole at first, then what changes."""

    def __init__(self, source: TreeSource, renderer: Renderer, readers: Audience[Stream]) -> None:
        self._source, self._renderer, self._readers = source, renderer, readers
        # What every reader that was served shows; None while nobody watches.
        self._shown: Branch | None = None
        self._crash: CrashView | None = None
        # The whole of `_shown`, rendered once for all who come within a period.
        self._whole: Frame | None = None

    def on_start(self) -> None:
        """Go on with the readers of an incarnation before: they are sent the whole tree."""
        self._readers.want_all()
        if self._readers:
            # Not at once: a tree that cannot be drawn must not crash the feed in a tight loop.
            self.after(PERIOD_S, Look(), key="look")

    def on_arrivals(self, _: Arrivals) -> None:
        """Send the whole tree at once, then what changes."""
        if self._shown is None and self._readers:
            facts = self._source.read()
            self._shown, self._crash = facts.root, facts.crash
            self.after(PERIOD_S, Look(), key="look")
        self._serve_waiting()

    def on_look(self, _: Look) -> None:
        """Send what changed since the last look."""
        if not self._readers:
            self._shown = self._whole = None
            return
        self.after(PERIOD_S, Look(), key="look")
        facts = self._source.read()
        before, self._shown = self._shown, facts.root
        if self._shown != before:
            self._whole = None
        if before is not None:
            self._send(self._patches(changes(before, self._shown)))
        crash = facts.crash
        if crash is not None and crash != self._crash:
            self._send({"crash": self._crash_frame(crash)})
        self._crash = crash
        self._serve_waiting()

    def _serve_waiting(self) -> None:
        # Sent `_shown`, not the tree of now: what changed since comes with the next look, to all.
        if self._shown is None:
            return
        waiting = self._readers.take_waiting()
        if not waiting:
            return
        if self._whole is None:
            self._whole = self._tree_frame(self._shown)
        crash = None if self._crash is None else self._crash_frame(self._crash)
        for stream in waiting:
            stream.put_panel("tree", self._whole)
            if crash is not None:
                stream.put_panel("crash", crash)

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
            # Removed first: for a reader that is behind, this takes the place of a patch that
            # removed an element of the same name, as the number of a kind has.
            append = patch_elements(
                html, selector=f"#kids-{new.parent}", mode=ElementPatchMode.APPEND
            )
            panels[f"node-{name}"] = joined([remove_elements(f"#node-{name}"), append])
        for row in changed.rows:
            panels[f"row-{row.id}"] = joined([patch_elements(self._renderer.tree_row(row))])
        return panels

    def _tree_frame(self, root: Branch) -> Frame:
        return joined([patch_elements(self._renderer.tree(root))])

    def _crash_frame(self, crash: CrashView) -> Frame:
        return joined([patch_elements(self._renderer.crash(crash))])
