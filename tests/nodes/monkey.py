"""What is done to nodes at random, by a seed: kills, stops, lines cut, and each mended again.

One fault at a time begins every few seconds, and lasts; some overlap. A fault of the nodes spares
one of three, so that there is somebody to go on; a fault of the database meets all.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from random import Random

from tests.nats_server import NatsServer
from tests.nodes.kit import Nodes
from tests.nodes.lines import Line

# CLU-43: how long a stopped node or server stays so, in seconds.
HANG_S = (1.0, 15.0)
DOWN_S = (0.5, 5.0)
CUT_S = (1.0, 10.0)
DATABASE_S = 5.0
PAUSE_S = (0.5, 3.0)
# A node that starts while its lines are cut gives up; one that never starts is a fault of its own.
STARTS_MAX = 20
# One way, the other, both.
_WAYS = ((True, False), (False, True), (True, True))


class Monkey:
    """Does it in the thread that calls `run`; `done` is what was done, in words, for a report."""

    def __init__(self, nodes: Nodes, seed: int) -> None:
        self._nodes, self._random = nodes, Random(seed)
        self._began = time.monotonic()
        self.done: list[str] = []
        self._lock = threading.Lock()
        self._busy: set[str] = set()
        self._threads: list[threading.Thread] = []
        self._failed: list[BaseException] = []

    def run(self, seconds: float) -> None:
        """Do one thing after the other for so long; returns when all is mended.

        Raises what went wrong in doing it, such as a node that does not start.
        """
        ends_at = time.monotonic() + seconds
        while time.monotonic() < ends_at and not self._failed:
            self._begin_one()
            time.sleep(self._random.uniform(*PAUSE_S))
        for thread in self._threads:
            thread.join()
        if self._failed:
            raise self._failed[0]

    def progress(self) -> str:
        """How far it is, in a line; any thread may ask."""
        with self._lock:
            return f"{len(self.done)} faults, now struck: {', '.join(sorted(self._busy)) or '-'}"

    def _begin_one(self) -> None:
        faults = [
            self._node_killed,
            self._node_hangs,
            self._node_renewed,
            self._server_killed,
            self._server_hangs,
            # Twice: it has three ways.
            self._messages_cut,
            self._messages_cut,
            self._database_cut,
            self._all_cut,
            self._rebalanced,
        ]
        self._random.choice(faults)()

    # Each fault: what is struck, what is done, how long it lasts, how it is mended.

    def _node_killed(self) -> None:
        name = self._a_node()
        seconds = self._random.uniform(*DOWN_S)
        self._strike(name, "node killed", seconds, self._kill(name), self._start(name))

    def _node_renewed(self) -> None:
        name = self._a_node()

        def stop() -> None:
            self._nodes.stop(name)

        self._strike(name, "node renewed", 0.0, stop, self._start(name))

    def _node_hangs(self) -> None:
        name = self._a_node()
        seconds = self._random.uniform(*HANG_S)

        def hang() -> None:
            self._nodes.hang(name)

        def go_on() -> None:
            self._nodes.go_on(name)

        self._strike(name, "node hangs", seconds, hang, go_on)

    def _server_killed(self) -> None:
        at, server = self._a_server()
        seconds = self._random.uniform(*DOWN_S)
        self._strike(f"server {at}", "server killed", seconds, server.kill, server.start)

    def _server_hangs(self) -> None:
        at, server = self._a_server()
        seconds = self._random.uniform(*HANG_S)
        self._strike(f"server {at}", "server hangs", seconds, server.hang, server.go_on)

    def _messages_cut(self) -> None:
        name = self._a_node()
        up, down = self._random.choice(_WAYS)
        seconds = self._random.uniform(*CUT_S)
        self._cut(f"{name}-messages", self._nodes.lines[name].messages, seconds, up=up, down=down)

    def _database_cut(self) -> None:
        name = self._a_node()
        up, down = self._random.choice(_WAYS)
        line = self._nodes.lines[name].database
        self._cut(f"{name}-database", [line], DATABASE_S, up=up, down=down)

    def _all_cut(self) -> None:
        lines = [one.database for one in self._nodes.lines.values()]
        self._cut("database", lines, DATABASE_S, up=True, down=True)

    def _rebalanced(self) -> None:
        with self._lock:
            running = [name for name in self._nodes.sites if name not in self._busy]
        if running and not self._busy:
            self._note("rebalance")
            self._nodes.sites[running[0]].run("cluster", "rebalance")

    def _cut(
        self, what: str, lines: Sequence[Line], seconds: float, *, up: bool, down: bool
    ) -> None:
        def cut() -> None:
            for line in lines:
                line.cut(up=up, down=down)

        def mend() -> None:
            for line in lines:
                line.mend()

        ways = "both ways" if up and down else "to the server" if up else "from the server"
        self._strike(what, f"cut {ways}", seconds, cut, mend)

    def _strike(
        self,
        what: str,
        how: str,
        seconds: float,
        begin: Callable[[], object],
        mend: Callable[[], object],
    ) -> None:
        """Have it done in a thread of its own, unless it is struck already, or too many are."""
        with self._lock:
            struck = {one for one in self._busy if len(one) == 1}
            if what in self._busy or (len(what) == 1 and len(struck) == len(self._nodes.names) - 1):
                return
            self._busy.add(what)
        self._note(f"{what}: {how}, {seconds:.1f} s")

        def work() -> None:
            try:
                begin()
                time.sleep(seconds)  # the length of the fault is the point
                mend()
            except BaseException as error:  # noqa: BLE001 - raised by `run`
                self._failed.append(error)
            finally:
                with self._lock:
                    self._busy.discard(what)

        thread = threading.Thread(target=work, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _kill(self, name: str) -> Callable[[], None]:
        return lambda: self._nodes.kill(name)

    def _start(self, name: str) -> Callable[[], object]:
        """As what starts a machine's programs does: one that could not start is started again."""

        def start() -> None:
            for _ in range(STARTS_MAX):
                try:
                    self._nodes.start(name)
                except AssertionError as error:
                    self._note(f"{name}: {str(error).splitlines()[-1]}")
                    time.sleep(PAUSE_S[0])
                else:
                    return
            raise AssertionError(f"{name} never started")

        return start

    def _a_node(self) -> str:
        return self._random.choice(self._nodes.names)

    def _a_server(self) -> tuple[int, NatsServer]:
        at = self._random.randrange(len(self._nodes.servers))
        return at, self._nodes.servers[at]

    def _note(self, words: str) -> None:
        self.done.append(f"{time.monotonic() - self._began:5.1f} {words}")
