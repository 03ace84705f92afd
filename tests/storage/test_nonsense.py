"""Whatever is given to a port, both engines answer alike, and in the package's own words."""

import dataclasses
import traceback
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import cast
from uuid import UUID, uuid4

import pytest

from actors.accounts import (
    Accounts,
    NewAccount,
    NewPassword,
    NewSignIn,
    Origin,
    Role,
    SessionId,
    StepUp,
)
from actors.accounts.kept.addresses import Addresses, NewAddress, TakeBack
from actors.accounts.kept.devices.port import Devices
from actors.accounts.kept.disavowals import Disavowal, Disavowals
from actors.accounts.kept.factors import CodeProof, Factors, NewTotp, PasskeyProof
from actors.accounts.kept.recoveries import NewRecovery, Recoveries, Telling
from actors.accounts.kept.risk.port import Allowance, Logins
from actors.accounts.kept.risk.words import Arrival
from actors.accounts.kept.tokens import NewToken, Scope
from actors.accounts.members import Operator
from actors.accounts.ways.links import LinkClaim, Newcomer, NewLink, SignInLinks
from actors.accounts.ways.passkeys import (
    Ceremony,
    ChallengeClaim,
    NewChallenge,
    NewPasskey,
    Passkeys,
    Removal,
)
from actors.accounts.ways.provider.identities import Identities, NewIdentity, Unlinking
from actors.accounts.ways.provider.words import Identity, ProviderTokens, SaidLogout, Shown
from actors.accounts.ways.tokens import BY_OPERATOR, ApiTokens
from actors.chat import (
    LOBBY,
    Author,
    ChatLog,
    Decision,
    Draft,
    Status,
    UnknownRoom,
    Verdict,
    Viewer,
)
from actors.cluster import LinkState, NewNode, NodeState
from actors.persistence import (
    START,
    AppendRequest,
    Checkpoint,
    Claim,
    Cursor,
    DeadLetters,
    DeadLetterStatus,
    EventStore,
    GenerationState,
    Idempotent,
    MailRef,
    MailState,
    NewDeadLetter,
    NewEvent,
    OutboxMessage,
    ProjectionBatch,
    SetTimer,
    Shard,
    Snapshot,
    Snapshots,
    StreamId,
    Tagged,
)
from actors.runtime import Secret
from storage.errors import (
    InvalidField,
    InvalidStreamId,
    InvalidTenant,
    StatementRefused,
    StoreError,
)
from storage.keyring import SubjectKeyring
from storage.memory import MemoryChatLog
from storage.postgres import Connection, Database, PostgresChatLog, PostgresSubjectKeys
from storage.testing.accounts.members import accounts_in_memory, accounts_in_postgres
from storage.testing.kept import kept_in_memory, kept_in_postgres
from storage.testing.samples import new_events

_SECRET = "a-secret-value"
_NONSENSE: tuple[object, ...] = (
    f"{_SECRET}\x00",
    f"{_SECRET}\ud800",
    _SECRET * 100_000,
    "",
    -1,
    2**31,
    2**63,
    10**40,
    0.5,
    float("nan"),
    None,
    True,
    b"\xff\x00",
    [_SECRET, 5],
    {_SECRET: 5},
    object(),
    datetime(2025, 1, 1),  # noqa: DTZ001  (it is the fault)
    datetime.max.replace(tzinfo=UTC),
    timedelta.max,
    timedelta(days=-1),
)
_AT = datetime(2025, 1, 1, tzinfo=UTC)
_A = StreamId("order-a")
_ONE = UUID(int=1)
_DRAFT = Draft(
    _ONE, _ONE, LOBBY, Author(None, "s", "ada"), "hello", "c", Status.VISIBLE, None, _AT, [], {}
)
_IDEMPOTENT = Idempotent("scope", "key", b"hash")
_CHECKPOINT = Checkpoint("p", 1, 1, START, "", GenerationState.LIVE)
_LETTER = NewDeadLetter("mail", "source", "m-1", "boom", "details", b"x", {"a": "b"})

# Of each port what a call is given; one value at a time is replaced by nonsense.
_CALLS: Mapping[str, Mapping[str, Mapping[str, object]]] = {
    "events": {
        "append": {
            "stream_id": _A,
            "events": [NewEvent(event_id=_ONE, type="T", data=b"{}")],
            "expected": 0,
            "shard": None,
            "outbox": [],
            "timers": [],
            "idempotency": None,
        },
        "load": {"stream_id": _A, "from_version": 1, "to_version": 3},
        "load_backwards": {"stream_id": _A, "from_version": 1, "to_version": 3, "limit": 1},
        "read_all": {"after": START, "limit": 5, "types": ["T"], "categories": ["c"]},
        "read_backwards": {"before": START, "limit": 5, "types": ["T"], "categories": ["c"]},
        "count": {"category": "c", "types": ["T"], "up_to": 5},
        "lag": {"after": START},
        "list_streams": {"category": "c", "prefix": "c-", "after": "c-1", "limit": 5},
        "head": {"stream_id": _A},
    },
    "idempotency": {
        "begin": {"request": _IDEMPOTENT},
        "maybe_answer": {"request": _IDEMPOTENT},
        "finish": {"claim": Claim(_IDEMPOTENT, _ONE), "result": b"x"},
        "abandon": {"claim": Claim(_IDEMPOTENT, _ONE)},
        "purge": {"limit": 5},
    },
    "outbox": {
        "add": {"messages": [OutboxMessage(_ONE, "mail", "t", "k", b"")]},
        "lease": {"owner": "o", "partitions": [1], "shard": Shard(0, "o", 1)},
        "release": {"owner": "o"},
        "next_batch": {
            "partition": 1,
            "epoch": 1,
            "limit": 5,
            "skipping": ["t"],
            "without": [1],
        },
        "due_in": {"partitions": [1]},
        "mark_sent": {"partition": 1, "epoch": 1, "ids": [1]},
        "mark_failed": {
            "partition": 1,
            "epoch": 1,
            "id_": 1,
            "error": "e",
            "retry_in": timedelta(seconds=1),
        },
        "revive": {"id_": 1},
        "drop": {"id_": 1},
        "purge": {"limit": 5},
    },
    "mails": {
        "begin": {"mail": MailRef(_ONE, b"a" * 32, "test")},
        "settle": {
            "mail": MailRef(_ONE, b"a" * 32, "test"),
            "state": MailState.SENT,
            "reason": "250",
        },
        "suppress": {"address": b"a" * 32, "reason": "550"},
        "maybe_suppression": {"address": b"a" * 32},
        "take_exception": {"address": b"a" * 32},
        "lift": {"address": b"a" * 32},
        "newest": {"limit": 5, "recipient": b"d" * 32},
        "purge": {"limit": 5},
    },
    "inbox": {"note": {"consumer": "c", "message_id": _ONE}},
    "timers": {
        "set": {"timer": SetTimer(_ONE, "a", "n", "t", _AT)},
        "cancel": {"address": "a", "name": "n"},
        "claim_due": {
            "worker": "w",
            "now": _AT,
            "limit": 5,
            "busy": ["a"],
            "shard": Shard(0, "o", 1),
        },
        "renew": {"worker": "w", "timer_ids": [_ONE], "now": _AT},
        "release": {"worker": "w"},
        "close": {"timer_id": _ONE},
        "failed": {"worker": "w", "timer_id": _ONE, "error": "e", "retry_at": _AT},
        "revive": {"timer_id": _ONE},
        "purge": {"limit": 5},
    },
    "dead_letters": {
        "add": {"letter": _LETTER},
        "get": {"id_": 99},
        "list": {
            "status": DeadLetterStatus.PENDING,
            "kind": "mail",
            "source": "s",
            "limit": 5,
            "after": 1,
        },
        "retry": {"id_": 99, "by": "ada"},
        "retry_all": {"kind": "mail", "limit": 5, "by": "ada"},
        "failed_again": {"id_": 99, "error_message": "e", "by": "ada"},
        "resolve": {"id_": 99, "by": "ada", "notes": "n"},
        "discard": {"id_": 99, "by": "ada", "reason": "r"},
        "hand_back": {"id_": 99, "by": "ada"},
        "outcomes": {"ids": [99]},
        "edit": {"id_": 99, "seen": b"x", "payload": b"y", "by": "ada", "notes": "n"},
        "changes": {"id_": 99, "limit": 5},
        "purge": {"limit": 5},
    },
    "snapshots": {
        "save": {"snapshot": Snapshot(_A, 1, "s", b"x")},
        "latest": {"stream_id": _A},
        "discard": {"stream_id": _A},
    },
    "projections": {
        "open": {
            "projection": "p",
            "generation": 1,
            "version": 1,
            "state": GenerationState.LIVE,
            "partition": 0,
        },
        "checkpoints": {"projection": "p"},
        "commit": {"batch": ProjectionBatch(_CHECKPOINT, Cursor(0, 0))},
        "parked_streams": {"collection": "p__g1", "among": ["a"]},
        "parked_events": {"collection": "p__g1", "stream_id": "a", "limit": 5},
        "set_state": {
            "projection": "p",
            "generation": 1,
            "state": GenerationState.LIVE,
            "error": "e",
        },
        "wished_replays": {"collection": "p__g1"},
        "resume": {"projection": "p", "generation": 1},
        "leave_out": {"projection": "p", "generation": 1},
        "leave": {"checkpoint": _CHECKPOINT},
        "swap": {"projection": "p", "generation": 1},
        "purge": {"limit": 5, "older_than": timedelta(days=1)},
        "get": {"collection": "p__g1", "key": "k"},
        "get_many": {"collection": "p__g1", "keys": ["k"]},
        "exists": {"collection": "p__g1", "key": "k"},
        "query": {"collection": "p__g1", "prefix": "k", "after": "k", "limit": 5},
        "tenants": {"collection": "p__g1", "after": "acme", "limit": 5},
    },
    "nodes": {
        "join": {"node": NewNode(_ONE, "a", "1")},
        "beat": {"node_id": _ONE, "link": LinkState.UP, "trips": {_ONE: 0.1}},
        "set_state": {"node_id": _ONE, "state": NodeState.UP},
        "claim": {"node_id": _ONE, "wanted": {0: 0}},
        "hand_over": {"node_id": _ONE, "shard": 0, "epoch": 1, "to": _ONE},
        "release": {"node_id": _ONE, "shards": {0: 1}},
        "remember": {"shard": Shard(0, "o", 1), "kind": "k", "id_": "i"},
        "forget": {"shard": Shard(0, "o", 1), "kind": "k", "id_": "i"},
        "remembered": {"shards": [0], "after": ("k", "i"), "limit": 5},
        "purge": {"limit": 5},
    },
}

_VERDICT = Verdict(_ONE, _ONE, _ONE, "s", Decision.APPROVE, "why", _AT)
_CHAT: Mapping[str, Mapping[str, object]] = {
    "post": {"draft": _DRAFT},
    "post_as_owner": {"drafts": [_DRAFT], "shard": Shard(1, "o", 1)},
    "history": {"room": LOBBY, "viewer": Viewer(session_id="s"), "before": 5, "limit": 5},
    "room_of": {"message_id": _ONE},
    "moderate": {"verdict": _VERDICT},
    "waiting": {"limit": 5},
    "audited": {"before": 5, "limit": 5},
    "join": {"room": LOBBY, "user_id": _ONE},
    "is_member": {"room": LOBBY, "user_id": _ONE},
    "members": {"room": LOBBY, "user_ids": [_ONE]},
    "ensure_rooms": {"names": [LOBBY]},
    "purge_messages": {"limit": 5},
    "purge_texts": {"limit": 5},
    "purge_audit": {"limit": 5},
    "purge_limits": {"limit": 5},
}

_D = b"d" * 32
_SIGN_IN = NewSignIn(_ONE, _D, SessionId("s"), "Firefox on Linux")
_PROOF, _ORIGIN = PasskeyProof(b"key", 1), Origin()
_TELLING = Telling(["a@b.example"])
_TOKENS = ProviderTokens(Secret("t"))
_TOKEN = NewToken(_ONE, _ONE, _ONE, _D, SessionId("s"), "n", (Scope.CHAT_READ,))
_SHOWN = Shown(Identity("https://id.example.org", "s"), "c@b.example", _TOKENS)
# Of the ports of accounts; as `_CALLS`.
_ACCOUNTS: Mapping[str, Mapping[str, Mapping[str, object]]] = {
    "accounts": {
        "register": {
            "account": NewAccount(_ONE, "n", "a@b.example", "$x"),
            "sign_in": _SIGN_IN,
            "origin": _ORIGIN,
        },
        "credentials": {"email": "a@b.example"},
        "credentials_of": {"user_id": _ONE},
        "renew_hash": {"user_id": _ONE, "former": "$x", "renewed": "$y"},
        "sign_in": {
            "user_id": _ONE,
            "password_hash": "$x",
            "sign_in": _SIGN_IN,
            "origin": _ORIGIN,
        },
        "who": {"digest": _D},
        "who_lately": {"digest": _D},
        "sign_out": {"session_id": SessionId("s"), "origin": _ORIGIN},
        "sign_ins": {"user_id": _ONE},
        "name_sign_in": {"user_id": _ONE, "reference": _ONE, "name": "n"},
        "end_sign_in": {"user_id": _ONE, "reference": _ONE, "origin": _ORIGIN, "by": _ONE},
        "end_others": {"user_id": _ONE, "reference": _ONE, "origin": _ORIGIN},
        "step_up": {"step": StepUp(_ONE, _ONE, _D), "origin": _ORIGIN},
        "all_sign_ins": {"user_id": _ONE, "limit": 5},
        "revoke": {
            "reference": _ONE,
            "user_id": _ONE,
            "by": Operator(_ONE, _ONE),
            "origin": _ORIGIN,
        },
        "change_password": {
            "change": NewPassword(_ONE, "$x", "$y", _ONE, _D),
            "origin": _ORIGIN,
        },
        "delete": {"user_id": _ONE, "former_hash": "$x", "origin": _ORIGIN, "by": _ONE},
        "grant": {"username": "n", "role": Role.USER},
        "named": {"username": "n"},
        "roles": {"user_ids": [_ONE]},
        "sweep": {"limit": 5},
    },
    "links": {
        "issue": {"link": NewLink(_D, _D, "a@b.example"), "outbox": []},
        "redeem": {
            "claim": LinkClaim(_D),
            "newcomer": Newcomer(_ONE, ["n"]),
            "sign_in": _SIGN_IN,
            "origin": _ORIGIN,
        },
    },
    "identities": {
        "use_state": {"digest": _D},
        "enter": {
            "provider": "example",
            "shown": _SHOWN,
            "newcomer": Newcomer(_ONE, ["n"]),
            "sign_in": _SIGN_IN,
            "origin": _ORIGIN,
        },
        "link": {"new": NewIdentity(_ONE, _ONE, "example", _SHOWN), "origin": _ORIGIN},
        "unlink": {"unlinking": Unlinking(_ONE, _ONE, "example"), "origin": _ORIGIN},
        "of_user": {"user_id": _ONE},
        "tokens": {"user_id": _ONE, "provider": "example"},
        "renew_tokens": {
            "user_id": _ONE,
            "provider": "example",
            "former": _TOKENS,
            "renewed": _TOKENS,
        },
        "claim_renewals": {"providers": ["example"], "limit": 5},
        "drop_tokens": {
            "user_id": _ONE,
            "provider": "example",
            "former": _TOKENS,
            "origin": _ORIGIN,
        },
        "provider_of": {"reference": _ONE},
        "log_out": {"said": SaidLogout("https://i", "t", _AT, "s"), "origin": _ORIGIN},
    },
    "factors": {
        "held": {"user_id": _ONE},
        "add_totp": {"new": NewTotp(_ONE, b"s" * 20, 1, _ONE, _D), "origin": _ORIGIN},
        "remove_totp": {"user_id": _ONE, "reference": _ONE, "origin": _ORIGIN, "outbox": []},
        "renew_codes": {
            "user_id": _ONE,
            "reference": _ONE,
            "codes": [_D],
            "origin": _ORIGIN,
            "outbox": [],
        },
    },
    "passkeys": {
        "issue": {"challenge": NewChallenge(_D, Ceremony.SIGN_IN, _D)},
        "take": {"claim": ChallengeClaim(_D, Ceremony.SIGN_IN, _D)},
        "of_user": {"user_id": _ONE},
        "of_email": {"email": "a@b.example"},
        "add": {"new": NewPasskey(_ONE, _ONE, b"key", b"p", _ONE, _D), "origin": _ORIGIN},
        "enter": {"user_id": _ONE, "proof": _PROOF, "sign_in": _SIGN_IN, "origin": _ORIGIN},
        "note_fall": {"user_id": _ONE, "proof": _PROOF, "origin": _ORIGIN, "outbox": []},
        "rename": {"user_id": _ONE, "id_": _ONE, "name": "n"},
        "remove": {"removal": Removal(_ONE, _ONE, _ONE, _D), "origin": _ORIGIN},
    },
    "disavowals": {
        "disavow": {"disavowal": Disavowal(_ONE, _D, _AT), "origin": _ORIGIN},
    },
    "addresses": {
        "ask": {"new": NewAddress(_ONE, _ONE, _ONE, "a@b.example"), "origin": _ORIGIN},
        "find": {"change_id": _ONE},
        "confirm": {"change_id": _ONE, "origin": _ORIGIN, "outbox": []},
        "take_back": {"back": TakeBack(_ONE), "origin": _ORIGIN},
    },
    "devices": {
        "of_user": {"user_id": _ONE, "offset": 0, "limit": 5},
        "trust": {"user_id": _ONE, "id_": _ONE, "origin": _ORIGIN},
        "rename": {"user_id": _ONE, "id_": _ONE, "name": "n"},
        "revoke": {"user_id": _ONE, "id_": _ONE, "origin": _ORIGIN},
    },
    "tokens": {
        "add": {"new": _TOKEN, "origin": _ORIGIN},
        "of_user": {"user_id": _ONE},
        "revoke": {"user_id": _ONE, "id_": _ONE, "origin": _ORIGIN, "because": BY_OPERATOR},
        "who": {"digest": _D},
    },
    "logins": {
        "find": {"login_id": _ONE},
        "allow": {"allowance": Allowance(_ONE, _D, _D, _AT), "origin": _ORIGIN},
        "purge": {"limit": 5},
    },
    "recoveries": {
        "known": {"user_id": _ONE},
        "start": {"new": NewRecovery(_ONE, _ONE, _TELLING), "origin": _ORIGIN},
        "recover": {
            "new": NewRecovery(_ONE, _ONE, _TELLING),
            "proof": CodeProof(_D),
            "origin": _ORIGIN,
        },
        "of_user": {"user_id": _ONE},
        "find": {"recovery_id": _ONE},
        "due": {"limit": 1},
        "make_ready": {"recovery_id": _ONE, "telling": _TELLING},
        "stop": {"recovery_id": _ONE, "telling": _TELLING, "origin": _ORIGIN},
        "finish": {"recovery_id": _ONE, "telling": _TELLING, "origin": _ORIGIN},
    },
}

_PORTS: Mapping[str, type] = {
    "accounts": Accounts,
    "links": SignInLinks,
    "factors": Factors,
    "identities": Identities,
    "passkeys": Passkeys,
    "disavowals": Disavowals,
    "addresses": Addresses,
    "devices": Devices,
    "logins": Logins,
    "recoveries": Recoveries,
    "tokens": ApiTokens,
}

# What a call or an append is given whole: refused when it is made, so that no store ever sees it.
_WORDS: tuple[object, ...] = (
    NewEvent(event_id=_ONE, type="T", data=b"{}", metadata={"a": "b"}, tenant="t"),
    OutboxMessage(_ONE, "bus", "t", "k", b"x", {"a": "b"}),
    SetTimer(_ONE, "a", "n", "t", _AT, b"x", {"a": "b"}),
    Shard(1, "o", 1),
    _IDEMPOTENT,
    Claim(_IDEMPOTENT, _ONE),
    Snapshot(_A, 1, "s", b"x"),
    _LETTER,
    _CHECKPOINT,
    _DRAFT,
    _VERDICT,
    Disavowal(_ONE, _D, _AT),
    NewAddress(_ONE, _ONE, _ONE, "a@b.example"),
    TakeBack(_ONE),
    Allowance(_ONE, _D, _D, _AT),
    Arrival(_ONE, _D, "password", "b", _D),
    _TOKEN,
)


async def _answer(call: Callable[[], object]) -> str:
    """The class of the error, or `answered`; anything but the package's own errors fails."""
    try:
        answer = call()
        if isinstance(answer, AsyncIterator):
            _ = [one async for one in answer]
        else:
            await cast(Awaitable[object], answer)
    except UnknownRoom:
        return "no such room"
    except StatementRefused as error:
        raise AssertionError("no check foresaw it") from error
    except StoreError as error:
        return _judged(error)
    return "answered"


def _judged(error: StoreError) -> str:
    # That one says what the name was.
    assert isinstance(error, InvalidStreamId) or _SECRET not in str(error)
    return type(error).__name__


def _spoiled(values: Mapping[str, object]) -> Iterator[tuple[str, object, dict[str, object]]]:
    for name in values:
        for nonsense in _NONSENSE:
            yield name, nonsense, {**values, name: nonsense}


async def _compare(ports: list[object], calls: Mapping[str, Mapping[str, object]]) -> None:
    for method, values in calls.items():
        for name, nonsense, given in _spoiled(values):
            at = f"{method}({name}={ascii(nonsense)[:60]})"
            answers = []
            for port in ports:
                try:
                    answers.append(await _answer(partial(getattr(port, method), **given)))
                except Exception as error:
                    raise AssertionError(f"{at}: {error!a}") from error
            assert answers[0] == answers[1], f"{at}: {answers}"


@pytest.mark.slow
async def test_nonsense_is_refused_alike_before_it_is_sent(database: Database) -> None:
    both = [kept_in_memory(), kept_in_postgres(database)]
    for port, calls in _CALLS.items():
        await _compare([getattr(kept, port) for kept in both], calls)
    for kept in both:
        for wait in ("1", None, -1, float("nan")):
            with pytest.raises(InvalidField):
                await kept.projections.changed(wait)  # type: ignore[arg-type]


_EVENT = NewEvent(event_id=_ONE, type="T", data=b"{}", tags=("t",))
# Of a view all that there is: what is swept above, and the rest.
_OF_A_VIEW: Mapping[str, Mapping[str, object]] = {
    "lineage": {},
    **_CALLS["events"],
    "append_request": {"request": AppendRequest(_A, [_EVENT])},
    "append_batch": {
        "requests": [AppendRequest(_A, [NewEvent(event_id=_ONE, type="T", data=b"1")])]
    },
    "read_tagged": {"query": [Tagged(("t",))]},
    "follow": {"types": ["T"]},
    "archive": {"stream_id": _A},
    "reopen": {"stream_id": _A},
    "tombstone": {"stream_id": _A},
}


async def _given_back(call: Callable[[], object]) -> object:
    """What a call gives, or is refused with; of one that never ends the first."""
    try:
        answer = call()
        if not isinstance(answer, AsyncIterator):
            return await cast(Awaitable[object], answer)
        async with aclosing(cast("AsyncGenerator[object, None]", answer)) as first:
            return [await anext(first, None)]
    except StoreError as error:
        return (str(error), vars(error))


@pytest.mark.parametrize("is_real", [False, True])
async def test_no_call_of_a_view_gives_what_is_anothers(database: Database, is_real: bool) -> None:
    # STORE-9: the list of calls is computed
    kept = kept_in_postgres(database) if is_real else kept_in_memory()
    for other in (kept.events, kept.events.for_tenant("globex")):
        for name in (_A, "c-1", f"c-{_SECRET}"):
            theirs = NewEvent(
                event_id=uuid4(), type="T", data=f'"{_SECRET}"'.encode(), tags=("t", _SECRET)
            )
            await other.append(StreamId(name), [theirs, *new_events(2)])
    ids = []
    for tenant in (None, "globex"):
        states = kept.snapshots if tenant is None else kept.snapshots.for_tenant(tenant)
        await states.save(Snapshot(_A, 3, _SECRET, b"x"))
        letter = dataclasses.replace(_LETTER, error_message=_SECRET, tenant=tenant)
        ids.append(await kept.dead_letters.add(letter))
    view, states = kept.events.for_tenant("acme"), kept.snapshots.for_tenant("acme")
    assert set(_OF_A_VIEW) == _methods_of(EventStore)
    assert set(_CALLS["snapshots"]) == _methods_of(Snapshots)
    await view.append(StreamId("c-own"), [NewEvent(event_id=uuid4(), type="T", data=b"{}")])
    swept: list[tuple[object, Mapping[str, Mapping[str, object]]]] = [
        (view, _OF_A_VIEW),
        (states, _CALLS["snapshots"]),
    ]
    letters = kept.dead_letters.for_tenant("acme")
    for id_ in ids:
        calls: Mapping[str, Mapping[str, object]] = {
            method: {**values, "id_": id_} if "id_" in values else values
            for method, values in {**_CALLS["dead_letters"], "counts": {}}.items()
        }
        assert set(calls) == _methods_of(DeadLetters)
        swept.append((letters, calls))
    for port, calls in swept:
        for method, values in calls.items():
            found = await _given_back(partial(getattr(port, method), **values))
            told = f"{method}: {found!r}"
            assert _SECRET not in told
            assert "globex" not in told
    # Nothing of theirs was changed either.
    for other in (kept.events, kept.events.for_tenant("globex")):
        assert [one.version async for one in other.load(_A)] == [1, 2, 3]
        assert (await other.append(_A, new_events(1), expected=3)).version == 4


def _methods_of(port: type) -> set[str]:
    return {one for one in vars(port) if one[0] != "_"} - {"tenant", "for_tenant"}


def test_nonsense_is_no_tenant() -> None:
    # STORE-9: told before there is a view, and without it
    kept = kept_in_memory()
    for port in (kept.events, kept.snapshots, kept.dead_letters):
        for nonsense in _NONSENSE:
            with pytest.raises((InvalidField, InvalidTenant)) as caught:
                port.for_tenant(nonsense)  # type: ignore[arg-type]
            assert _SECRET not in str(caught.value)


async def test_chat_refuses_nonsense_alike(database: Database) -> None:
    keyring = SubjectKeyring(PostgresSubjectKeys(database), Secret(b"k" * 32))
    logs: list[ChatLog] = [MemoryChatLog(), PostgresChatLog(database, keyring)]
    for log in logs:
        await log.ensure_rooms([LOBBY])
    await _compare([*logs], _CHAT)


@pytest.mark.slow
async def test_ports_of_accounts_refuse_nonsense_alike(database: Database) -> None:
    # SEC-104: a value of any kind, and never a trace of it in what is told
    both = [accounts_in_memory(), accounts_in_postgres(database)]
    for port, calls in _ACCOUNTS.items():
        assert set(calls) == _methods_of(_PORTS[port]), port
        await _compare([getattr(kept, port) for kept in both], calls)


def test_nonsense_in_a_word_is_refused_when_it_is_made() -> None:
    for word in _WORDS:
        names = getattr(word, "__struct_fields__", None) or [one.name for one in _fields(word)]
        for name, nonsense, given in _spoiled({name: getattr(word, name) for name in names}):
            at = f"{type(word).__name__}({name}={ascii(nonsense)[:60]})"
            try:
                type(word)(**given)
            except StoreError as error:
                _judged(error)
            except Exception as error:
                raise AssertionError(f"{at}: {error!a}") from error


def _fields(word: object) -> tuple[dataclasses.Field[object], ...]:
    return dataclasses.fields(word)  # type: ignore[arg-type]


async def test_what_the_database_refuses_is_told_without_values(database: Database) -> None:
    # By `Database` itself, so that no port can forget it
    async def break_a_rule(connection: Connection, statement: str) -> None:
        await connection.execute(statement)

    for work in (database.run, database.transact):
        for statement in (
            "INSERT INTO checkpoints VALUES ('a-secret-value', 1, 0, 1, '0', 0, NULL, 'live')",
            "SELECT 'a-secret-value'::int",
            'SELECT 1 FROM "a-secret-value"',
        ):
            with pytest.raises(StatementRefused) as caught:
                await work(break_a_rule, statement)
            told = "".join(traceback.format_exception(caught.value))
            assert _SECRET not in told
            assert "DETAIL" not in told
