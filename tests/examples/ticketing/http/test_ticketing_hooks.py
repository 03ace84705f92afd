"""What the gateway says by itself: believed when it is signed, heard once, in any order."""

from __future__ import annotations

import secrets
from itertools import permutations

import msgspec
import pytest

from actors.persistence import execute
from docs.examples.ticketing.gateway import Charged, Declined
from docs.examples.ticketing.http.desk import desk_of
from docs.examples.ticketing.http.hooks import (
    HEADER,
    NEWS_S_MAX,
    PATH,
    Hook,
    hooks_of,
    is_signed,
    signed,
)
from docs.examples.ticketing.payments import TryToPay
from tests.examples.orders.orders_kit import ask
from tests.examples.ticketing.http.ticketing_kit import planned, sign_in
from web.app import OwnSite

OLD, NEW = secrets.token_bytes(32), secrets.token_bytes(32)
AT = 1_900_000_000.0


@pytest.mark.parametrize(
    ("keys", "moved_s", "body", "is_good"),
    [
        ({"old": OLD}, 0, b"{}", True),
        ({"old": OLD, "new": NEW}, 0, b"{}", True),
        ({"new": NEW}, 0, b"{}", False),
        ({"old": NEW}, 0, b"{}", False),
        ({"old": OLD}, 0, b"{} ", False),
        ({"old": OLD}, NEWS_S_MAX, b"{}", True),
        ({"old": OLD}, NEWS_S_MAX + 1, b"{}", False),
        ({"old": OLD}, -NEWS_S_MAX - 1, b"{}", False),
    ],
)
def test_a_hook_is_believed_that_is_signed_lately(
    keys: dict[str, bytes], moved_s: float, body: bytes, is_good: bool
) -> None:
    # EX-49
    header = signed({"old": OLD}, b"{}", AT)
    assert is_signed(keys, header, body, AT + moved_s) is is_good


def test_what_is_no_signature_is_none() -> None:
    # EX-49
    good = signed({"old": OLD}, b"{}", AT)
    for header in ("", good + " ", good.upper(), good.replace("t=", "t=-"), "t=1,k=old,v1="):
        assert not is_signed({"old": OLD}, header, b"{}", AT), header


async def test_hooks_in_any_order_and_twice_end_alike(memory_site: OwnSite) -> None:
    # EX-49: before the call was answered, for its answer never comes here
    site, desk = memory_site, desk_of(memory_site)
    owner, ann = [await sign_in(site.port, f"{who}@example.com") for who in ("o", "ann")]
    event = await planned(owner, 20)

    async def send(hook: Hook, keys: dict[str, bytes] | None = None) -> int:
        body = msgspec.json.encode(hook)
        header = signed(keys or desk.options.hooks, body, desk.now().timestamp())
        return (await ask(site.port, f"POST {PATH}", body, {HEADER: header})).status

    for order in permutations(range(3)):
        name = await ann.reserved(event)
        await execute(desk.office.find().payments[name], TryToPay("first", "Credit Card"))
        said = hooks_of(f"{name} first", Charged("txn-1"))
        # A bank that says no after it said yes is not believed; before, its yes counts.
        said += hooks_of(f"{name} first", Declined("the wrong way round"))
        for n in [*order, *order]:
            assert await send(said[n]) == 200
        await ann.until(f"/api/reservations/{name}", "status", "Completed")
        payment = await ann.get(f"/api/payments/{name}")
        assert (payment["status"], payment["transaction_id"]) == ("Captured", "txn-1")
    name = await ann.reserved(event)
    (declined,) = hooks_of(f"{name} nobody", Declined("x"))
    assert await send(declined) == 404
    assert await send(declined, {"site": OLD}) == 401
    bare = await ask(site.port, f"POST {PATH}", msgspec.json.encode(declined))
    assert bare.status == 401


async def test_an_answer_that_is_lost_is_said_by_a_hook(port: int) -> None:
    # EX-49: the courier sends each twice, in any order
    owner, ann = [await sign_in(port, f"{who}@example.com") for who in ("o", "ann")]
    name = await ann.reserved(await planned(owner))
    assert (await ann.pay(name, "tok_timeout")).status == 202
    await ann.until(f"/api/reservations/{name}", "status", "Completed")
    assert (await ann.get(f"/api/payments/{name}"))["status"] == "Captured"
