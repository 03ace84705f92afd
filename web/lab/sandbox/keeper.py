"""The keeper: starts a sandbox when its visitor's first stream opens, heals it, and ends it.

Rule: what is true stands in `Sandboxes` and in the tree. Whatever the keeper was doing when it
crashed, its next incarnation looks at both and goes on.
"""

import secrets
from collections.abc import Callable
from contextlib import suppress

import trio

from actors.runtime import Actor, AnyRef, Down, NoProc, message
from supervision import Dynamic, SupervisionError, administer, handle_of
from web.lab.sandbox.sandboxes import HEALED_AFTER_S, KEPT_S, Sandbox, Sandboxes
from web.lab.sandbox.words import PLACES, ROOM_NAMES, ROOMS, below
from web.lab.switch import LabSwitch

# LAB-92 asks for a second.
LOOK_S = 0.5


@message
class Look:
    """Time to look at what is to be started, healed or ended."""


@message
class Wanted:
    """Something is to be done now."""


Messages = Look | Wanted | Down


class Keeper(Actor[Messages]):
    """Looks after the sandboxes. `supervisor` finds what stands above them; `changed` is told of
    another mode of the lab."""

    def __init__(
        self,
        sandboxes: Sandboxes,
        switch: LabSwitch,
        supervisor: Callable[[], AnyRef],
        changed: Callable[[], None],
    ) -> None:
        self._sandboxes, self._switch = sandboxes, switch
        self._supervisor, self._changed = supervisor, changed
        self._is_tidy = False

    def on_start(self) -> None:
        """Watch who is there, and look at once."""
        for sandbox in self._sandboxes:
            desk = None if sandbox.root is None else self.system.at(sandbox.root)
            if desk is None:
                self._sandboxes.ended(sandbox)
            else:
                self.monitor(desk.ref, final=True)
        self.after(0.0, Look(), key="look")

    async def on_look(self, _: Look) -> None:
        """Look again later, whatever happens now."""
        self.after(LOOK_S, Look(), key="look")
        before = self._switch.mode
        self._switch.look(trio.current_time())
        if self._switch.mode is not before:
            self._changed()
        await self._tend()

    async def on_wanted(self, _: Wanted) -> None:
        """Somebody came, or something is missing."""
        await self._tend()

    async def on_down(self, message: Down) -> None:
        """Make a sandbox anew whose desk gave up, or was killed."""
        sandbox = self._sandboxes.at(message.ref.path)
        if sandbox is None or sandbox.root != message.ref.path:
            return  # it was ended here
        self._sandboxes.ended(sandbox)
        sandbox.remade += 1
        await self._tend()

    async def _tend(self) -> None:
        now = trio.current_time()
        if not self._is_tidy:
            await self._tidy()
        for sandbox in self._sandboxes:
            is_left = sandbox.is_own and not sandbox.viewers
            if is_left and now - sandbox.left_at >= KEPT_S:
                await self._end(sandbox)
                # Who came back while its actors ended has it: it is made anew.
                if not sandbox.viewers:
                    self._sandboxes.forget(sandbox)
                    continue
            if sandbox.is_to_be_made_anew:
                await self._end(sandbox)
                # Last: a keeper that was killed by now has its next incarnation do it.
                sandbox.props.count_anew()
                sandbox.is_to_be_made_anew = False
            if sandbox.root is None:
                await self._begin(sandbox)
            elif sandbox.has_fewer_rooms or self._is_to_be_healed(sandbox, now):
                await self._furnish(sandbox)

    async def _tidy(self) -> None:
        """End what an incarnation before was about to end, or to start, when it was killed.

        What it had named and not started yet cannot start any more: its name is unknown by now.
        """
        with suppress(SupervisionError, NoProc):
            above = handle_of(Dynamic, self._supervisor())
            for child in await above.which_children():
                if child.ref is not None and self._sandboxes.at(child.ref.path) is None:
                    await above.terminate_child(child.ref)
            self._is_tidy = True

    def _is_to_be_healed(self, sandbox: Sandbox, now: float) -> bool:
        if sandbox.acted_at is None or now - sandbox.acted_at < HEALED_AFTER_S:
            return False
        sandbox.acted_at = None
        return len(self._sandboxes.cells(sandbox)) < len(PLACES)

    async def _begin(self, sandbox: Sandbox) -> None:
        key = secrets.token_hex(8)
        self._sandboxes.named(sandbox, key)
        try:
            above = handle_of(Dynamic, self._supervisor())
            started = await above.start_child(key=key)
        except (SupervisionError, NoProc):
            # Its supervisor is being restarted, or is full: the next look tries again.
            self._sandboxes.ended(sandbox)
            return
        if started.ref is not None:
            self.monitor(started.ref, final=True)
        await self._furnish(sandbox)

    async def _furnish(self, sandbox: Sandbox) -> None:
        sandbox.has_fewer_rooms = False
        for name in ROOM_NAMES:
            rooms = self._sandboxes.cell(sandbox, ROOMS)
            if sandbox.root is None or rooms is None:
                return
            if self.system.at(f"{below(sandbox.root, ROOMS)}/{name}") is None:
                # Refused for a while after it gave up, or its supervisor is gone: at the next look.
                with suppress(SupervisionError, NoProc):
                    handle = administer(rooms.ref)
                    assert isinstance(handle, Dynamic)
                    await handle.start_child(key=name)

    async def _end(self, sandbox: Sandbox) -> None:
        desk = None if sandbox.root is None else self.system.at(sandbox.root)
        self._sandboxes.ended(sandbox)
        if desk is not None:
            with suppress(SupervisionError, NoProc):
                await handle_of(Dynamic, self._supervisor()).terminate_child(desk.ref)
