"""Answers of devices, right and wrong in every way, judged by the checks and the library."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID, uuid4

import cbor2
import pytest

from actors.accounts import Level
from actors.accounts.ways.passkeys import (
    BadAnswer,
    MadeAnswer,
    Party,
    Passkey,
    UseAnswer,
    challenge_of,
    check_made,
    check_use,
    counter_fell,
    fake_ids,
    level_of,
)
from actors.accounts.ways.passkeys.checks import Flags, handle_of
from storage.errors import InvalidField
from tests.passkeys import (
    BACKED_UP,
    ELIGIBLE,
    PRESENT,
    RIGHT,
    VERIFIED,
    Authenticator,
    Ways,
    unb64,
)
from web.accounts.ways.passkeys.verifying import WebauthnVerifier

PARTY = Party("site.example", frozenset({"https://site.example", "https://www.site.example"}))
USER = uuid4()
CHALLENGE = os.urandom(32)


def device() -> Authenticator:
    return Authenticator("site.example", "https://site.example")


def made_of(posted: dict[str, object]) -> MadeAnswer:
    response = posted["response"]
    assert isinstance(response, dict)
    return MadeAnswer(
        unb64(str(posted["id"])),
        unb64(response["clientDataJSON"]),
        unb64(response["attestationObject"]),
    )


def use_of(posted: dict[str, object]) -> UseAnswer:
    response = posted["response"]
    assert isinstance(response, dict)
    handle = response.get("userHandle")
    return UseAnswer(
        unb64(str(posted["id"])),
        unb64(response["clientDataJSON"]),
        unb64(response["authenticatorData"]),
        unb64(response["signature"]),
        None if handle is None else unb64(handle),
    )


async def register(
    one: Authenticator, ways: Ways = RIGHT, roots: list[bytes] | None = None
) -> Passkey:
    """All that a registration judges; gives the passkey that would be kept."""
    answer = made_of(one.make(CHALLENGE, handle_of(USER), ways))
    if challenge_of(answer.client_data) != CHALLENGE:
        raise BadAnswer("challenge")
    made = await WebauthnVerifier(roots or []).made(answer, CHALLENGE, PARTY)
    flags = check_made(answer.client_data, made.authenticator_data, PARTY)
    if made.credential_id != answer.credential_id:
        raise BadAnswer("another_key")
    return Passkey(
        uuid4(), USER, made.credential_id, made.public_key, flags.sign_count,
        flags.is_backup_eligible, flags.is_backed_up, made.is_attested, "",
        datetime(2025, 1, 1, tzinfo=UTC),
    )  # fmt: skip


async def use(
    one: Authenticator,
    passkey: Passkey,
    ways: Ways = RIGHT,
    *,
    needs_verified: bool = True,
    needs_handle: bool = True,
) -> Flags:
    """All that a use judges."""
    answer = use_of(one.use(CHALLENGE, ways=ways))
    if challenge_of(answer.client_data) != CHALLENGE:
        raise BadAnswer("challenge")
    flags = check_use(
        answer, passkey, PARTY, needs_verified=needs_verified, needs_handle=needs_handle
    )
    await WebauthnVerifier().check(answer, CHALLENGE, PARTY, passkey.public_key)
    return flags


async def test_what_is_right_passes() -> None:
    # AUTH-7, SEC-101
    for attestation in ("none", "self"):
        one = device()
        passkey = await register(one, Ways(attestation=attestation))
        flags = await use(one, passkey)
        assert (flags.is_verified, flags.sign_count) == (True, 1)
        assert not passkey.is_attested
        one.origin = "https://www.site.example"
        await use(one, passkey)


_CLIENT: list[dict[str, object]] = [
    {"type": "webauthn.create"}, {"type": "payment.get"}, {"type": None}, {"type": 5},
    {"origin": "https://evil.example"}, {"origin": "http://site.example"},
    {"origin": "https://site.example:444"}, {"origin": "https://site.example/"},
    {"origin": "HTTPS://site.example"}, {"origin": "https://a.site.example"}, {"origin": None},
    {"crossOrigin": True}, {"crossOrigin": "false"}, {"crossOrigin": 1},
    {"topOrigin": "https://site.example"}, {"topOrigin": "https://evil.example"},
    {"topOrigin": ""},
    {"challenge": "AAAA"}, {"challenge": ""}, {"challenge": None}, {"challenge": "*" * 43},
]  # fmt: skip


@pytest.mark.parametrize("client", _CLIENT)
async def test_what_a_client_says_wrong_is_refused(client: dict[str, object]) -> None:
    # SEC-101, SEC-102: signed by the right key, all the same
    one = device()
    passkey = await register(one)
    with pytest.raises(BadAnswer):
        await use(one, passkey, Ways(client=client))
    if client == {"type": "webauthn.create"}:
        client = {"type": "webauthn.get"}
    with pytest.raises(BadAnswer):
        await register(device(), Ways(client=client))


@pytest.mark.parametrize(
    "ways",
    [
        Ways(flags=VERIFIED), Ways(flags=PRESENT), Ways(flags=0),
        Ways(flags=PRESENT | VERIFIED | BACKED_UP), Ways(rp_id="evil.example"), Ways(rp_id=""),
    ],
)  # fmt: skip
async def test_what_a_device_says_wrong_is_refused(ways: Ways) -> None:
    # SEC-101, SEC-102, SEC-104: not present, not verified, backed up and cannot be, another site
    one = device()
    passkey = await register(one)
    with pytest.raises(BadAnswer):
        await use(one, passkey, ways)
    with pytest.raises(BadAnswer):
        await register(device(), ways)


async def test_verification_is_asked_for_where_it_is_needed_only() -> None:
    # SEC-102, AUTH-7, AUTH-22
    one = device()
    passkey = await register(one)
    flags = await use(one, passkey, Ways(flags=PRESENT), needs_verified=False)
    assert level_of(flags, passkey) is Level.BASIC
    # The library's word is not enough: it takes a user that was not verified.
    answer = use_of(one.use(CHALLENGE, ways=Ways(flags=PRESENT)))
    await WebauthnVerifier().check(answer, CHALLENGE, PARTY, passkey.public_key)


async def test_a_key_never_changes_whether_it_is_backed_up_by_others() -> None:
    # SEC-104
    synced = PRESENT | VERIFIED | ELIGIBLE
    one = device()
    passkey = await register(one, Ways(flags=synced))
    assert passkey.is_backup_eligible
    assert not passkey.is_backed_up
    assert (await use(one, passkey, Ways(flags=synced | BACKED_UP))).is_backed_up
    with pytest.raises(BadAnswer, match="backup_changed"):
        await use(one, passkey)
    plain = await register(device())
    one = device()
    bound = await register(one)
    assert not plain.is_backup_eligible
    with pytest.raises(BadAnswer, match="backup_changed"):
        await use(one, bound, Ways(flags=synced))


async def test_a_device_says_whose_key_it_is() -> None:
    # SEC-104
    one = device()
    passkey = await register(one)
    for wrong in (UUID(int=5).bytes, b"", b"x" * 64):
        for needs_handle in (True, False):
            with pytest.raises(BadAnswer, match="another_user"):
                await use(one, passkey, Ways(user_handle=wrong), needs_handle=needs_handle)
    with pytest.raises(BadAnswer, match="no_handle"):
        await use(one, passkey, Ways(user_handle=None))
    await use(one, passkey, Ways(user_handle=None), needs_handle=False)
    other = device()
    await register(other)
    with pytest.raises(BadAnswer):  # another key under the id of this one
        await use(other, passkey, Ways(change={"id": lambda _: passkey.credential_id}))


async def judge_use(answer: UseAnswer, passkey: Passkey) -> None:
    if challenge_of(answer.client_data) != CHALLENGE:
        raise BadAnswer("challenge")
    check_use(answer, passkey, PARTY, needs_verified=True, needs_handle=True)
    await WebauthnVerifier().check(answer, CHALLENGE, PARTY, passkey.public_key)


async def judge_made(answer: MadeAnswer) -> None:
    made = await WebauthnVerifier().made(answer, CHALLENGE, PARTY)
    check_made(answer.client_data, made.authenticator_data, PARTY)
    if made.credential_id != answer.credential_id:
        raise BadAnswer("another_key")


@pytest.mark.slow
async def test_a_use_with_any_byte_changed_is_refused() -> None:
    # SEC-101: of all that was signed, and of the signature
    one = device()
    passkey = await register(one)
    right = use_of(one.use(CHALLENGE))
    await WebauthnVerifier().check(right, CHALLENGE, PARTY, passkey.public_key)
    tried = 0
    for part in ("client_data", "authenticator_data", "signature"):
        value: bytes = getattr(right, part)
        for changed in _changed(value):
            answer = replace(right, **{part: changed})
            with pytest.raises((BadAnswer, InvalidField)):
                await judge_use(answer, passkey)
            tried += 1
    assert tried > 200


def _changed(value: bytes) -> list[bytes]:
    flipped = [value[:at] + bytes([value[at] ^ 0x01]) + value[at + 1 :] for at in range(len(value))]
    return [*flipped, value + b"\0", value[:-1], value[1:], value * 2]


async def test_a_made_key_with_a_part_changed_is_refused() -> None:
    # SEC-101: one that signs for itself, so that no byte of it is free
    one = device()
    posted = made_of(one.make(CHALLENGE, handle_of(USER), Ways(attestation="self")))
    whole = cbor2.loads(posted.attestation)
    wrong: list[bytes] = [b"\0", b"\xff" * 40, posted.attestation + b"\0", posted.attestation[:-1]]
    data: bytes = whole["authData"]
    for at in (0, 31, 32, 36, 52, 53, 60, len(data) - 1):
        changed = data[:at] + bytes([data[at] ^ 0x01]) + data[at + 1 :]
        wrong.append(cbor2.dumps({**whole, "authData": changed}))
    changes: tuple[dict[str, object], ...] = (
        {"fmt": "none"}, {"fmt": "packed2"}, {"fmt": 5}, {"authData": b""}, {"authData": "text"},
        {"attStmt": {}}, {"attStmt": {"alg": -257, "sig": whole["attStmt"]["sig"]}},
        {"attStmt": {"alg": -7, "sig": b"x"}}, {"attStmt": {"alg": -7, "sig": b"x", "x5c": [b""]}},
    )  # fmt: skip
    wrong += [cbor2.dumps({**whole, **change}) for change in changes]
    await WebauthnVerifier().made(posted, CHALLENGE, PARTY)
    for attestation in wrong:
        with pytest.raises(BadAnswer):
            await judge_made(replace(posted, attestation=attestation))


async def test_only_a_maker_the_operator_knows_makes_hardware() -> None:
    # AUTH-22
    one, other = device(), device()
    root, strange = one.certify(), other.certify()
    for roots, level in (
        ([root], Level.HARDWARE_BACKED), ([strange], Level.MULTI_FACTOR), ([], Level.MULTI_FACTOR),
    ):  # fmt: skip
        passkey = await register(one, Ways(attestation="root"), roots)
        flags = await use(one, passkey)
        assert level_of(flags, passkey) is level
    synced = PRESENT | VERIFIED | ELIGIBLE
    passkey = await register(one, Ways(attestation="root", flags=synced), [root])
    flags = await use(one, passkey, Ways(flags=synced))
    assert level_of(flags, passkey) is Level.MULTI_FACTOR, "others may have it too"
    plain = await register(one, Ways(attestation="self"), [root])
    assert not plain.is_attested


@pytest.mark.parametrize(
    ("kept", "told", "fell"),
    [(0, 0, False), (0, 1, False), (1, 2, False), (1, 1, True), (1, 0, True), (2**32 - 1, 0, True)],
)
def test_a_counter_that_is_not_above_the_one_before_fell(kept: int, told: int, fell: bool) -> None:
    # SEC-103
    assert counter_fell(kept, told) is fell


def test_ids_that_are_made_up_are_the_same_each_time_and_look_like_real_ones() -> None:
    # SEC-106, AUTH-8
    import hmac

    def digest(data: bytes) -> bytes:
        return hmac.digest(b"k" * 32, data, "sha256")

    def other(data: bytes) -> bytes:
        return hmac.digest(b"o" * 32, data, "sha256")

    names = [f"{number}@example.org" for number in range(200)]
    found = {name: fake_ids(name, digest) for name in names}
    assert found == {name: fake_ids(name, digest) for name in names}
    assert len({one for ids in found.values() for one in ids}) == sum(map(len, found.values()))
    assert {len(one) for ids in found.values() for one in ids} == {16, 20, 32, 64}
    assert {len(ids) for ids in found.values()} == {1, 2}
    assert fake_ids(names[0], other) != found[names[0]]


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"null", b"\xff", b"{" * 5000, b'{"type":"webauthn.get"}', b'{"a":1'],
)  # fmt: skip
def test_nonsense_is_no_client_data(data: bytes) -> None:
    # SEC-101
    with pytest.raises(BadAnswer):
        challenge_of(data)
