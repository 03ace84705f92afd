"""Where actors are found: by registered names, looked up at each use.

A supervisor that was itself restarted gives its children new refs, so nobody keeps one.
"""

from collections.abc import Callable
from typing import NewType, TypeVar, cast

from actors.runtime import Actor, NoProc, Ref, System
from supervision import Dynamic, handle_of
from web.realtime import ConnectionRef, EventMessages, Stream

M = TypeVar("M")

Name = NewType("Name", str)

STREAMS = Name("streams")
SOCKETS = Name("sockets")
# What stands above the actors of a plan of one's own.
ACTORS = Name("actors")
# What stands above the actors that this node of a cluster owns.
OWNED = Name("owned")


class Finder:
    """Finds actors once a system is attached; each call raises `NoProc` for one that is gone."""

    def __init__(self) -> None:
        self._system: System | None = None

    def attach(self, system: System) -> None:
        """Call this when the tree starts, before any of its actors looks for another."""
        self._system = system

    @property
    def system(self) -> System:
        """The running system."""
        assert self._system is not None, "the tree attaches its system before its actors start"
        return self._system

    async def start_stream(self, stream: Stream, request_window: Callable[[Stream], None]) -> None:
        """Call this to put a stream's actor into the tree."""
        await self._dynamic(STREAMS).start_child(stream, request_window)

    async def start_socket(self, make: Callable[[], object]) -> ConnectionRef:
        """Call this to put a socket's actor into the tree."""
        started = await self._dynamic(SOCKETS).start_child(make)
        return cast("ConnectionRef", started.ref)

    async def start_event_stream(self, make: Callable[[], object]) -> Ref[EventMessages]:
        """Call this to put the actor of a program's event stream into the tree, beside sockets."""
        started = await self._dynamic(SOCKETS).start_child(make)
        return cast("Ref[EventMessages]", started.ref)

    def owned(self) -> Dynamic[object]:
        """Call this to find what stands above the actors that this node of a cluster owns."""
        return self._dynamic(OWNED)

    def _dynamic(self, name: Name) -> Dynamic[object]:
        return handle_of(Dynamic, self._find(name, Dynamic))

    def _find(self, name: str, kind: type[Actor[M]]) -> Ref[M]:
        ref = self.system.whereis(name, kind)
        if ref is None:
            raise NoProc(name)
        return ref
