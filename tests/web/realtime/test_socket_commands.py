"""Commands of greenroom.v1: one answer an id, carried out once, in virtual time."""

from __future__ import annotations

from random import Random

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.web.realtime.connection_kit import connected, open_kit
from web.realtime import CommandMemory, Done, Form, Refused, SocketCode
from web.realtime.socket.commands import CommandKey

ACK = {
    "type": "ack",
    "id": "c1",
    "result": {"seconds": 0.0, "word": ""},
    "position": "1.2",
}


async def test_a_command_is_acknowledged_when_it_is_done(autojump_clock: MockClock) -> None:
    # WEB-40
    async with connected(Form.V1) as peer:
        await peer.nap("c1")
        assert await peer.heard() == [ACK]
        await peer.say('{"type":"command","action":{"Nap":{"seconds":0}}}')
        assert await peer.heard() == [], "without an id there is nothing to answer to"


async def test_the_same_id_is_carried_out_once_and_answered_alike(
    autojump_clock: MockClock,
) -> None:
    # WEB-41: on this connection, and on the next one of the client
    async with open_kit() as kit:
        peer = await kit.connect(Form.V1)
        await peer.nap("c1")
        await peer.nap("c1")
        assert await peer.heard() == [ACK, ACK]
        peer.hang_up()
        again = await kit.connect(Form.V1)
        await again.nap("c1")
        assert await again.heard() == [ACK]
        assert kit.service.begun == ["who/phone/c1"]


async def test_an_id_counts_for_its_user_and_client_only(autojump_clock: MockClock) -> None:
    # WEB-41
    async with open_kit() as kit:
        for user, client in (("who", "phone"), ("who", "desk"), ("other", "phone")):
            peer = await kit.connect(Form.V1, user=user, client=client)
            await peer.nap("c1")
            assert await peer.heard() == [ACK]
        assert len(kit.service.begun) == 3


async def test_an_id_of_another_command_is_a_conflict(autojump_clock: MockClock) -> None:
    # WEB-41, WEB-43
    async with connected(Form.V1) as peer:
        await peer.nap("c1")
        await peer.nap("c1", 1)
        ack, error = await peer.heard()
        assert ack == ACK
        assert (error["code"], error["id"]) == ("CONFLICT", "c1")


async def test_a_command_that_is_late_is_told_and_its_repeat_gets_the_outcome(
    autojump_clock: MockClock,
) -> None:
    # WEB-40, WEB-41
    async with open_kit() as kit:
        peer = await kit.connect(Form.V1)
        await peer.nap("c1", 15)
        await trio.sleep(10)
        (late,) = await peer.heard()
        assert (late["code"], late["id"]) == ("TIMEOUT", "c1")
        await peer.nap("c1", 15)
        await trio.sleep(6)
        (ack,) = await peer.heard()
        assert (ack["type"], ack["id"]) == ("ack", "c1")
        assert len(kit.service.begun) == 1


async def test_a_command_goes_on_when_its_socket_is_lost(autojump_clock: MockClock) -> None:
    # WEB-41: the outcome waits for who comes back, and nothing stays behind
    async with open_kit() as kit:
        peer = await kit.connect(Form.V1)
        await peer.nap("c1", 15)
        peer.hang_up()
        await trio.sleep(11)
        again = await kit.connect(Form.V1)
        await again.nap("c1", 15)
        await trio.sleep(5)
        assert [each["type"] for each in await again.heard()] == ["ack"]
        assert (len(kit.service.begun), kit.service.ended) == (1, 1)
        again.hang_up()
        await wait_all_tasks_blocked()
        assert not [cell for cell in kit.system.cells() if "onnection" in cell.path]


async def test_a_command_whose_connection_was_killed_may_be_sent_again(
    autojump_clock: MockClock,
) -> None:
    # WEB-41: nobody knows what became of it; the store is handed the same key
    async with open_kit() as kit:
        peer = await kit.connect(Form.V1)
        await peer.nap("c1", 5)
        await wait_all_tasks_blocked()
        waiting = await kit.connect(Form.V1)
        await waiting.nap("c1", 5)
        await wait_all_tasks_blocked()
        peer.ref.kill()
        await trio.sleep(6)
        assert [each["type"] for each in await waiting.heard()] == ["ack"]
        assert kit.service.begun == ["who/phone/c1"] * 2
        assert kit.service.ended == 1


async def test_what_is_refused_for_good_stays_refused_and_the_rest_may_be_tried_again(
    autojump_clock: MockClock,
) -> None:
    # WEB-41, WEB-43
    async with open_kit() as kit:
        peer = await kit.connect(Form.V1)
        for code, begun in (("REFUSED", 1), ("TOO_MANY_REQUESTS", 2), ("TIMEOUT", 2)):
            kit.service.begun.clear()
            for _ in range(2):
                await peer.nap(code, word=code)
                (error,) = await peer.heard()
                assert (error["code"], error["id"]) == (code, code)
            assert len(kit.service.begun) == begun


async def test_a_topic_one_may_not_publish_to_is_forbidden(autojump_clock: MockClock) -> None:
    # WEB-32, WEB-43
    async with connected(Form.V1) as peer:
        await peer.say(
            '{"type":"command","action":{"Nap":{"seconds":0}},"topic":"closed","id":"c1"}'
        )
        (error,) = await peer.heard()
        assert (error["code"], error["id"]) == ("FORBIDDEN", "c1")


async def test_a_connection_that_names_no_client_leaves_nothing_to_remember(
    autojump_clock: MockClock,
) -> None:
    # WEB-41, REL-70
    async with open_kit() as kit:
        for client, kept in ((None, 0), ("phone", 1)):
            peer = await kit.connect(Form.V1, client=client)
            await peer.nap("c1")
            await peer.nap("c1")
            assert await peer.heard() == [ACK, ACK]
            peer.hang_up()
            await wait_all_tasks_blocked()
            assert len(kit.settings.memory) == kept


async def test_a_late_command_outlives_its_socket_by_more_than_the_silence_allowed(
    autojump_clock: MockClock,
) -> None:
    # WEB-41, WEB-33
    async with open_kit() as kit:
        peer = await kit.connect(Form.V1)
        await peer.nap("c1", 65)
        peer.hang_up()
        await trio.sleep(66)
        assert kit.service.ended == 1


def key(n: int, client: str = "phone") -> CommandKey:
    return CommandKey("who", client, f"c{n}")


def test_commands_are_kept_for_ten_minutes_and_the_oldest_make_room() -> None:
    # WEB-41, REL-70
    now = 0.0
    memory = CommandMemory(now=lambda: now, per_client_max=3, total_max=5)
    for n in range(4):
        fate, is_new = memory.claim(key(n), b"x")
        memory.settle(key(n), fate, Done())
        assert is_new
    assert [memory.claim(key(n), b"x")[1] for n in (1, 2, 3)] == [False] * 3
    assert memory.claim(key(0), b"x")[1], "a client keeps its newest only"
    for n in range(3):
        memory.claim(key(n, "desk"), b"x")
    assert len(memory) == 5
    now = 600.0
    memory.claim(key(9), b"x")
    assert len(memory) == 1


def test_one_that_was_dropped_while_it_ran_takes_no_other_with_it() -> None:
    # WEB-41
    memory = CommandMemory(now=lambda: 0.0, per_client_max=1)
    old, _ = memory.claim(key(0), b"x")
    memory.claim(key(1), b"x")
    new, _ = memory.claim(key(0), b"x")
    memory.settle(key(0), old, Refused("no", SocketCode.TIMEOUT))
    assert memory.claim(key(0), b"x") == (new, False)


def test_the_largest_share_gives_whoever_shrinks_and_goes_meanwhile() -> None:
    # REL-70, REL-71: told against a count of all shares
    rng = Random(7)
    now = [0.0]
    memory = CommandMemory(now=lambda: now[0], kept_s=50.0, per_share_max=9, total_max=20)
    for step in range(3000):
        now[0] += rng.random()
        share, client = f"share{rng.randrange(6)}", f"client{rng.randrange(8)}"
        if rng.random() < 0.1:
            memory.forget("who", client)
            continue
        before = {name: len(keys) for name, keys in memory._shares.items()}
        fate, is_new = memory.claim(key(step, client), b"x", share)
        assert is_new
        if rng.random() < 0.2:
            memory.settle(key(step, client), fate, Refused("no", SocketCode.TIMEOUT))
        sizes = {name: len(keys) for name, keys in memory._shares.items()}
        assert len(memory) == sum(sizes.values()) <= 20
        assert memory._largest == max(sizes.values(), default=0)
        assert {name: size for size, of in memory._sizes.items() for name in of} == sizes
        assert max(sizes.values(), default=0) <= max(before.values(), default=0) + 1


def test_a_flood_of_one_address_pushes_out_nobody_elses() -> None:
    # WEB-41, REL-70: however many clients it calls itself
    memory = CommandMemory(now=lambda: 0.0, per_share_max=6, total_max=10)
    for n in range(3):
        memory.claim(key(n, "quiet"), b"x", "home")
    for n in range(100):
        memory.claim(key(n, f"loud{n}"), b"x", "flood")
    assert len(memory) == 9
    for n in range(3):
        memory.claim(key(n, "other"), b"x", "office")
    # All is full, and it is the largest share that gives.
    assert len(memory) == 10
    for n in range(3):
        assert not memory.claim(key(n, "quiet"), b"x", "home")[1]
        assert not memory.claim(key(n, "other"), b"x", "office")[1]
    memory.forget("who", "quiet")
    assert len(memory) == 7
