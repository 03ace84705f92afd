"""What the lab shows of the nodes of a site: over the link's twin, in virtual time."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import trio
from trio.testing import MockClock

from actors.cluster import Member
from tests.actors.cluster.reaching.talkers_kit import Add, Talkers, talkers
from tests.web.views.samples import nodes, renderer
from web.observability.operating.nodes import nodes_view
from web.views import NodesView, SiteNodeView


def seen(some: Talkers, name: str, server: str = "") -> NodesView:
    talker = some.talkers[name]
    view = nodes_view(
        talker.node.member, talker.cluster.statistics(), talker.link.status(), server=server
    )
    assert view is not None
    return view


def by_name(view: NodesView) -> dict[str, SiteNodeView]:
    return {node.name: node for node in view.nodes}


async def test_nodes_shards_moves_and_the_way_to_each_are_seen(
    autojump_clock: MockClock,
) -> None:
    # CLU-40
    async with talkers("a", "b", shards=5) as some:
        for name in "ab":
            # Who does not know it claims it not, and either may be the one that is to.
            some[name].member.singleton("one")
        for one, other in (("a", "b"), ("b", "a")):
            some.server.direction(one, other).delay_s = 0.05
        for number in range(10):
            some.talkers["a"].shelf(some.id_on("b")).tell(Add(number))
        await trio.sleep(5)
        view = seen(some, "a", "127.0.0.1:4222")
        here, there = by_name(view)["a"], by_name(view)["b"]
        assert sorted([here.shards, there.shards]) == [2, 3]
        assert here.singletons + there.singletons == 1
        assert (here.is_this, here.round_trip_ms, here.window_percent) == (True, None, None)
        assert (there.round_trip_ms, there.window_percent) == (100.0, 0)
        assert (there.delivered, there.lost, there.silent_s) == (10, 0, 0)
        assert (view.shards, view.unowned, view.moves) == (5, 0, ())
        assert (view.is_linked, view.server, view.server_version) == (
            True,
            "127.0.0.1:4222",
            "memory",
        )
        # One that says nothing, until it is gone: what it owned is nobody's for a moment.
        some.stop("b")
        await some.until(lambda: by_name(seen(some, "a"))["b"].silent_s >= 3)
        await some.until(lambda: seen(some, "a").unowned > 0)
        assert {move.source for move in seen(some, "a").moves} == {None}
        await some.until(lambda: by_name(seen(some, "a"))["a"].shards == 5)
        assert (seen(some, "a").unowned, list(by_name(seen(some, "a")))) == (0, ["a"])
        some.go_on("b")
        some.server.go_away()
        assert not seen(some, "a").is_linked


def test_before_the_first_look_there_is_nothing_to_show() -> None:
    member = Member(lambda: 0.0)
    figures, status = None, None
    assert nodes_view(member, figures, status) is None  # type: ignore[arg-type]


def test_the_panel_says_it_all_and_hides_markup() -> None:
    # CLU-40, BUS-8
    html = renderer().nodes(nodes())
    for text in (
        "1 of them nobody", "NATS 2.11.3", "127.0.0.1:4222", "9 frames refused", "this node",
        "round trip <b>1.9 ms</b>", "window <b>7 %</b>", "lost <b>1</b>", "silent <b>3 s</b>",
        "3 <bdi>nobody</bdi>", "b&lt;b&gt;", "(now)", "and 34 more",
        "<bdi>mail</bdi> <b>1,234</b> records, <b>9 s</b> behind;",
        "<bdi>s&lt;b&gt;</bdi> up to date (nobody reads)",
    ):  # fmt: skip
        assert text in html, text
    assert "b<b>" not in html
    assert "s<b>" not in html
    down = renderer().nodes(replace(nodes(), is_linked=False, moves=()))
    assert "No link to the others" in down
    assert "Moves" not in down


def test_what_the_api_tells_of_nodes_is_json() -> None:
    # CLU-40, LAB-4
    told = msgspec.json.decode(msgspec.json.encode(nodes().to_json()))
    assert told["nodes"][1]["round_trip_ms"] == 1.9
    assert told["moves"][0] == {"shard": 3, "source": None, "to": "a", "is_under_way": False}
    assert told["groups"][0] == {
        "group": "mail",
        "members": 2,
        "topics": [
            {"topic": "order-events", "records": 1200, "seconds": 7},
            {"topic": "other-events", "records": 34, "seconds": 9},
        ],
    }
