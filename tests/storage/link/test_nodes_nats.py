"""Two whole nodes over a real server: their actors are reached, and its end is noticed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest
import trio

from actors.cluster import Cluster, Host, HostActor, LinkActor, made
from actors.cluster.link import FrameKeys, NoLink
from actors.runtime import AskError
from storage.link.nats import open_nats_link
from storage.link.nats_words import NatsCredentials, NatsSettings
from supervision import ChildSpec, Dynamic, DynamicFlags, open_system
from tests.actors.cluster.nodes_kit import SomeNodes
from tests.actors.cluster.reaching.talkers_kit import SECRET, Add, Books, Echo, Seen, Shelf
from tests.nats_server import PASSWORD, USER, NatsServer, missing
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())


def _owned() -> Dynamic[object]:
    return Dynamic(DynamicFlags(), ChildSpec("owned", made, restart="transient"))


async def _settle(
    nodes: SomeNodes, above: Dynamic[object], name: str, settings: NatsSettings,
    stack: AsyncExitStack, books: Books,
) -> Cluster:  # fmt: skip
    link = await stack.enter_async_context(open_nats_link(settings, wait_s=PATIENCE_S))
    node = await nodes.start(name)
    host = Host(node.member, lambda: above, kinds={"shelf": partial(Shelf, books, name)})
    cluster = Cluster(
        above.system, node.member, host, link,
        name="suite", keys=FrameKeys("suite", SECRET), wall=nodes.env.clock.now,
    )  # fmt: skip
    node.link_state = cluster.link_state
    await above.system.start(partial(HostActor, host))
    await above.system.start(partial(LinkActor, cluster))
    return cluster


async def _until(is_so: Callable[[], bool]) -> None:
    with trio.fail_after(PATIENCE_S):
        while not is_so():  # noqa: ASYNC110  (of several things, most set no event)
            await trio.sleep(0.01)


async def test_two_nodes_talk_over_a_real_server(tmp_path: Path) -> None:
    """Tells in order, asks each with its reply; a killed server ends asks, and all comes back."""
    # CLU-20, CLU-21, CLU-54
    password = tmp_path / "password"
    password.write_text(PASSWORD)
    with NatsServer(tmp_path / "server") as server:
        async with AsyncExitStack() as stack:
            above = await stack.enter_async_context(open_system(_owned))
            nodes, books = SomeNodes(above.system, 8), Books()
            clusters = {}
            for name in ("a", "b"):
                who = NatsCredentials(user=USER, password_file=password)
                settings = NatsSettings((server.url,), name, "gr.suite", who)
                clusters[name] = await _settle(nodes, above, name, settings, stack, books)

            def is_ready() -> bool:
                return nodes.is_shared_out("a", "b") and all(
                    [peer.is_ready for peer in one.statistics().peers] == [True]
                    and all(one.member.map.of(shard).owner for shard in range(8))
                    for one in clusters.values()
                )

            await _until(is_ready)
            a, b = clusters["a"], clusters["b"]
            owned = nodes["b"].owned
            id_ = next(f"{n}" for n in range(1000) if b.member.token("shelf", f"{n}") is not None)
            assert a.member.whose("shelf", id_).shard in owned
            shelf = a.ref("shelf", id_, Shelf)
            for number in range(500):
                shelf.tell(Add(number))
            assert await shelf.ask(Seen(), timeout=PATIENCE_S) == list(range(500))
            wrong: list[str] = []

            async def ask(number: int) -> None:
                text = f"text {number}"
                got = await shelf.ask(Echo(text), timeout=PATIENCE_S)
                if got != text:
                    wrong.append(got)

            async with trio.open_nursery() as nursery:
                for number in range(1000):
                    nursery.start_soon(ask, number)
            assert not wrong
            ended: list[AskError] = []

            async def ask_in_vain() -> None:
                with pytest.raises(NoLink) as lost:
                    await shelf.ask(Seen(after_s=PATIENCE_S), timeout=2 * PATIENCE_S)
                ended.append(lost.value)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask_in_vain)
                await _until(lambda: a.statistics().peers[0].asks == 1)
                await trio.to_thread.run_sync(server.kill)
            assert ended
            await trio.to_thread.run_sync(server.start)
            await _until(is_ready)
            other = a.ref("shelf", _another(b, id_), Shelf)
            assert await other.ask(Echo("x"), timeout=PATIENCE_S) == "x"
            # It still has the message in hand that nobody waits for.
            b.ref("shelf", id_).kill()


def _another(cluster: Cluster, than: str) -> str:
    ids = (f"{n}" for n in range(1000) if cluster.member.token("shelf", f"{n}") is not None)
    return next(id_ for id_ in ids if id_ != than)
