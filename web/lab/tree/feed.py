"""The feed of the supervision tree: what the lab's open streams see of the running system.

Rule 1: with nobody watching it looks at nothing.
Rule 2: several changes within a period are one patch: a page is sent at most five a second, fewer
where they are so many that a patch takes long, and only the rows that changed.
Rule 3: the name of a tree is sent behind all that leads to it. A page that was cut off before it
says the name of an older one, and is sent every row that changed since, whether it had it or not.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import trio

from actors.runtime import Actor, message
from web.lab.views import TreeChanges, TreeFacts, branch_of, changes, changes_since
from web.realtime import (
    Arrivals,
    Audience,
    ElementPatchMode,
    Slices,
    Stream,
    TellSent,
    joined,
    patch_elements,
    remove_elements,
)
from web.server import Bundle, Frame
from web.views import (
    Branch,
    CrashTarget,
    CrashView,
    ElementId,
    LastedView,
    NodesView,
    Renderer,
    TreeView,
    element_id,
)

# LAB-10: changed nodes at most five times a second, a status within 200 ms.
PERIOD_S = 0.2
# PERF-24: to hand a patch to thousands takes time that others wait for, most of all when all of
# them come at once and each changes the tree. A look that took long rests so many times as long,
# so the feed has a fifth of the time at most; but a page never waits longer than a second for it.
REST_TIMES, REST_S_MAX = 4.0, 1.0
# Who comes back within some seconds of a busy tree, or any time later of a quiet one, is sent rows.
TREES_KEPT = 16
# What a page calls its marks, and what it says of a crash when it shows none.
PANEL, CRASH_PANEL, TARGET_PANEL, NO_CRASH = "tree", "crash", "target", "none"
LASTED_PANEL, NODES_PANEL = "lasted", "nodes"


class TreeSource:
    """Where the picture of the tree comes from."""

    def __init__(self, read: Callable[[], TreeFacts], now: Callable[[], datetime]) -> None:
        self.read, self._now = read, now
        self._kept: tuple[float, TreeView] | None = None
        # Random: a page of another process must not take its trees for ours.
        self._epoch = secrets.token_hex(4)
        self._trees: dict[ElementId, Branch] = {}
        self._newest: ElementId | None = None
        self._count = 0

    def view(self) -> TreeView:
        """Call this to get the whole panel as a page shows it first.

        It may be as old as what an open page shows, and is corrected by the page's stream: however
        many pages load, the tree is drawn no more often than for one that is open.
        """
        at = trio.current_time()
        if self._kept is None or at - self._kept[0] >= PERIOD_S:
            facts = self.read()
            mark = self.mark(facts.root)
            self._kept = (
                at,
                TreeView(
                    facts.root,
                    self._now(),
                    facts.target,
                    facts.crash,
                    mark,
                    facts.lasted,
                    facts.nodes,
                ),
            )
        return self._kept[1]

    def mark(self, root: Branch) -> ElementId:
        """Call this to name a tree; one that equals the newest is the same."""
        if self._newest is not None and self._trees[self._newest] == root:
            return self._newest
        self._count += 1
        self._newest = element_id(f"{self._epoch}-{self._count}")
        self._trees[self._newest] = root
        while len(self._trees) > TREES_KEPT:
            del self._trees[next(iter(self._trees))]
        return self._newest

    def changes_since(self, mark: str, root: Branch) -> TreeChanges | None:
        """Call this for what turns a page showing `mark` into one showing `root`; None: unknown."""
        trees = [*self._trees.items()]
        known = [at for at, (name, _) in enumerate(trees) if name == mark]
        if not known:
            return None
        before, *between = (tree for _, tree in trees[known[0] :])
        return changes_since(before, between, root)


@dataclass(frozen=True, slots=True)
class Patch:
    """What a panel is sent, and what instead where an older patch of it still waits."""

    frame: Frame
    over: Frame | None = None


@message
class Look:
    """Time to see what changed."""


Messages = Arrivals | Look


class TreeFeed(Actor[Messages]):
    """Sends the tree to who watches it: whole at first, then what changes."""

    def __init__(
        self,
        source: TreeSource,
        renderer: Renderer,
        readers: Audience[Stream],
        tell_sent: TellSent | None = None,
    ) -> None:
        self._source, self._renderer, self._readers = source, renderer, readers
        # Told of what a crash has led to, once the readers were sent it.
        self._tell_sent = tell_sent
        # What every reader that was served shows; None while nobody watches.
        self._shown: Branch | None = None
        self._crash: CrashView | None = None
        self._target: CrashTarget | None = None
        self._lasted: LastedView | None = None
        self._nodes: NodesView | None = None
        self._mark: ElementId | None = None
        # The whole of `_shown`, rendered once for all who come within a period; and what leads to
        # it from older trees.
        self._whole: Frame | None = None
        self._rests: dict[str, dict[str, Patch]] = {}

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
            self._show(facts.root)
            self._crash, self._target, self._lasted = facts.crash, facts.target, facts.lasted
            self._nodes = facts.nodes
            self.after(PERIOD_S, Look(), key="look")
        self._serve_waiting()

    async def on_look(self, _: Look) -> None:
        """Send what changed since the last look."""
        if not self._readers:
            self._shown = self._whole = None
            self._rests.clear()
            return
        began = trio.current_time()
        await self._look()
        took = trio.current_time() - began
        wait = max(PERIOD_S - took, min(REST_TIMES * took, REST_S_MAX))
        self.after(wait, Look(), key="look")

    async def _look(self) -> None:
        facts = self._source.read()
        before = self._shown
        if facts.root != before:
            self._show(facts.root)
        if before is not None:
            await self._send(self._patches(changes(before, facts.root)))
        crash = facts.crash
        if crash is not None and crash != self._crash:
            frame = self._crash_frame(crash)
            await self._send({"crash": Patch(frame)})
            if self._tell_sent is not None:
                self._tell_sent(frame)
        if facts.target is not None and facts.target != self._target:
            await self._send({TARGET_PANEL: Patch(self._target_frame(facts.target))})
        if facts.lasted is not None and facts.lasted != self._lasted:
            await self._send({LASTED_PANEL: Patch(self._lasted_frame(facts.lasted))})
        if facts.nodes is not None and facts.nodes != self._nodes:
            await self._send({NODES_PANEL: Patch(self._nodes_frame(facts.nodes))})
        self._crash, self._target, self._lasted = crash, facts.target, facts.lasted
        self._nodes = facts.nodes
        self._serve_waiting()

    def _serve_waiting(self) -> None:
        # Sent `_shown`, not the tree of now: what changed since comes with the next look, to all.
        if self._shown is None:
            return
        waiting = self._readers.take_waiting()
        if not waiting:
            return
        mark = NO_CRASH if self._crash is None else self._crash.mark
        crash: Frame | None = None
        for stream, holds in waiting.items():
            held = None if holds is None else holds.one(PANEL)
            for panel, patch in self._rest(self._shown, held).items():
                stream.put_panel(panel, patch.frame, patch.over)
            # A page that says nothing came with none, or with the one that is newest.
            held = None if holds is None else holds.one(CRASH_PANEL)
            if held != mark and (self._crash is not None or held is not None):
                crash = crash or self._crash_frame(self._crash)
                stream.put_panel("crash", crash)
            held = None if holds is None else holds.one(TARGET_PANEL)
            if self._target is not None and held not in (None, self._target.mark):
                stream.put_panel(TARGET_PANEL, self._target_frame(self._target))
            held = None if holds is None else holds.one(LASTED_PANEL)
            if self._lasted is not None and held not in (None, self._lasted.mark):
                stream.put_panel(LASTED_PANEL, self._lasted_frame(self._lasted))
            held = None if holds is None else holds.one(NODES_PANEL)
            if self._nodes is not None and held not in (None, self._nodes.mark):
                stream.put_panel(NODES_PANEL, self._nodes_frame(self._nodes))

    def _show(self, root: Branch) -> None:
        self._shown, self._mark, self._whole = root, self._source.mark(root), None
        self._rests.clear()

    def _rest(self, root: Branch, held: str | None) -> dict[str, Patch]:
        """Give what turns a page that holds `held` into one that shows `root`, by panel."""
        if held is not None and held not in self._rests:
            found = self._source.changes_since(held, root)
            if found is not None and found.whole is None:
                self._rests[held] = {} if held == self._mark else self._patches(found, is_old=True)
        if held is not None and held in self._rests:
            return self._rests[held]
        if self._whole is None:
            self._whole = self._tree_frame(root)
        return {"tree": Patch(self._whole)}

    async def _send(self, panels: dict[str, Patch]) -> None:
        """Send to the readers of this moment, with one write each; who comes meanwhile waits."""
        if not panels:
            return
        slices, bundle = Slices(), Bundle(tuple((patch.frame, 0) for patch in panels.values()))
        for stream in self._readers:
            if slices.is_over(bundle.size):
                await trio.lowlevel.checkpoint()
            if not stream.write_now(bundle):
                for panel, patch in panels.items():
                    stream.put_panel(panel, patch.frame, patch.over)

    def _patches(self, changed: TreeChanges, *, is_old: bool = False) -> dict[str, Patch]:
        # Each node has a panel name of its own: for a reader that is behind, the newest state
        # of a node replaces the older one.
        if changed.whole is not None:
            return {"tree": Patch(self._tree_frame(changed.whole))}
        panels: dict[str, Patch] = {}
        for gone in changed.removed:
            panels[f"node-{gone}"] = Patch(joined([remove_elements(f"#node-{gone}")]))
        for new in changed.added:
            if is_old and self._shown is not None:
                # The page may have been sent it already, or not: its parent comes as a whole, which
                # is right for both, and removes nothing that may not be there.
                parent = branch_of(self._shown, new.parent)
                html = self._renderer.tree_branch(parent, level=new.level - 1)
                panels[f"node-{new.parent}"] = Patch(joined([patch_elements(html)]))
                continue
            html = self._renderer.tree_branch(new.branch, level=new.level)
            name = new.branch.node.id if isinstance(new.branch, Branch) else new.branch.id
            append = patch_elements(
                html, selector=f"#kids-{new.parent}", mode=ElementPatchMode.APPEND
            )
            # Of the same name as one that went, as the number of a kind is: for a reader that was
            # not sent its end yet, this takes the place of that. To all others nothing is removed,
            # for a browser complains of an element that is not there.
            over = joined([remove_elements(f"#node-{name}"), append])
            panels[f"node-{name}"] = Patch(joined([append]), over)
        for row in changed.rows:
            row_patch = patch_elements(self._renderer.tree_row(row))
            panels[f"row-{row.id}"] = Patch(joined([row_patch]))
        if self._mark is not None and (panels or is_old):
            # Put last, so it leaves last, also when a reader is behind (rule 3).
            named = self._renderer.tree_mark(self._mark)
            panels["tree-mark"] = Patch(joined([patch_elements(named)]))
        return panels

    def _tree_frame(self, root: Branch) -> Frame:
        html = self._renderer.tree(root)
        if self._mark is not None:
            html += self._renderer.tree_mark(self._mark)
        return joined([patch_elements(html)])

    def _target_frame(self, target: CrashTarget) -> Frame:
        return joined([patch_elements(self._renderer.crash_button(target))])

    def _lasted_frame(self, lasted: LastedView) -> Frame:
        return joined([patch_elements(self._renderer.lasted(lasted))])

    def _nodes_frame(self, nodes: NodesView) -> Frame:
        return joined([patch_elements(self._renderer.nodes(nodes))])

    def _crash_frame(self, crash: CrashView | None) -> Frame:
        return joined([patch_elements(self._renderer.crash(crash))])
