"""`greenroom sessions` and `greenroom audit` on a real database."""

import json
from dataclasses import replace
from uuid import UUID, uuid4

import pytest

from actors.accounts import Act, Entry, NewSignIn, Origin, user_stream
from actors.accounts.kept.risk.assessing import WeighedRisk
from actors.accounts.kept.risk.deciding import assessed
from actors.accounts.kept.risk.words import Arrival, Judgement, LoginHistory, Outcome, Proven
from storage.postgres import Database
from storage.testing.accounts.members import HASH, accounts_in_postgres, sign_in_of
from storage.testing.accounts.tokens import add_token
from tests.web.cli.commanding import Commands, fetch, on


async def _three(database: Database) -> None:
    kept = accounts_in_postgres(database)
    ada = await kept.register()
    await kept.register("bob")
    origin = Origin("192.0.2.*", "Firefox on Linux", "r-1")
    await kept.accounts.sign_in(ada.user_id, HASH, sign_in_of("other"), origin)
    await kept.audit.note(Entry(Act.SIGN_IN, ada.user_id, origin, "wrong"))


def test_sessions_are_listed_and_ended(
    database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    # SEC-18
    on(database_url, _three)
    run = Commands(database_url, capsys)
    newest = run.json("sessions", "list", "--user", "ada")[0]
    assert (newest["address"], newest["browser"]) == ("192.0.2.*", "Firefox on Linux")
    assert len(run.json("sessions", "list")) == 3
    for unknown in (str(uuid4()), "nonsense"):
        assert run("sessions", "revoke", unknown, "--yes") == 3
        assert "there is no session" in run.err
    assert run("sessions", "revoke", "--user", "nobody", "--yes") == 3
    with pytest.raises(SystemExit) as ended:
        run("sessions", "revoke", "--yes")
    assert ended.value.code == 2
    capsys.readouterr()
    assert run("sessions", "revoke", str(newest["session"])) == 2  # nobody can be asked
    assert run.one("sessions", "revoke", str(newest["session"]), "--yes") == {"ended": 1}
    assert run("sessions", "revoke", str(newest["session"]), "--yes") == 3
    assert run.one("sessions", "revoke", "--user", "ADA", "--yes") == {"ended": 1}
    assert run.one("sessions", "revoke", "--all", "--yes", "--reason", "a leak") == {"ended": 1}
    assert run.json("sessions", "list") == []
    ends = fetch(database_url, "SELECT session_id FROM session_ends ORDER BY 1")
    assert ends == [("ada",), ("bob",), ("other",)]
    audit = fetch(
        database_url,
        "SELECT success, metadata ->> 'reason' FROM audit_log"
        " WHERE action = 'sessions revoke' AND resource = 'all'",
    )
    assert audit == [(True, "a leak")]


async def _with_tokens(database: Database) -> None:
    kept = accounts_in_postgres(database)
    ada, bob = await kept.register(), await kept.register("bob")
    for name in ("one", "two", "three"):
        await add_token(kept, ada, name)
    await add_token(kept, bob, "of bob")


def test_tokens_are_listed_and_ended(database_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    # SEC-16, SEC-87: by an operator, with what they have open; of another member none is
    on(database_url, _with_tokens)
    run = Commands(database_url, capsys)
    rows = run.json("tokens", "list", "--user", "ada")
    assert [row["name"] for row in rows] == ["three", "two", "one"]
    assert (rows[0]["scopes"], rows[0]["used"]) == ("account:read chat:read", None)
    (of_bob,) = run.json("tokens", "list", "--user", "bob")
    for unknown in (str(uuid4()), str(of_bob["token"]), "grt_" + "a" * 43):
        assert run("tokens", "revoke", unknown, "--user", "ada", "--yes") == 3
        assert "no token of that id" in run.err
        assert unknown not in run.err
    assert run("tokens", "list", "--user", "nobody") == 3
    for lacking in (["--user", "ada"], ["--all"]):
        with pytest.raises(SystemExit) as ended:
            run("tokens", "revoke", *lacking, "--yes")
        assert ended.value.code == 2
        capsys.readouterr()
    one = str(rows[0]["token"])
    assert run("tokens", "revoke", one, "--user", "ada") == 2  # nobody can be asked
    assert run.one("tokens", "revoke", one, "--user", "ada", "--yes") == {"ended": 1}
    assert run("tokens", "revoke", one, "--user", "ada", "--yes") == 3
    assert run.one("tokens", "revoke", "--all", "--user", "ADA", "--yes") == {"ended": 2}
    assert run.one("tokens", "revoke", "--all", "--user", "ada", "--yes") == {"ended": 0}
    assert run.json("tokens", "list", "--user", "ada") == []
    ends = fetch(database_url, "SELECT session_id FROM session_ends ORDER BY 1")
    assert ends == [("one",), ("three",), ("two",)]
    on(database_url, _told_by_whom)


async def _told_by_whom(database: Database) -> None:
    kept = accounts_in_postgres(database)
    found = await kept.accounts.named("ada")
    assert found is not None
    events = [event async for event in kept.events.load(user_stream(found[0]))]
    acts = [json.loads(one.data)["because"] for one in events if one.type == "ApiTokenRevoked"]
    assert acts == 3 * ["operator"]


def test_the_audit_is_searched(database_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    # AUTH-42
    on(database_url, _three)
    run = Commands(database_url, capsys)
    acts = [row["act"] for row in run.json("audit", "search", "--user", "ada")]
    assert acts == ["account.sign_in", "account.sign_in", "account.register"]
    (refused,) = run.json("audit", "search", "--outcome", "refused")
    assert (refused["reason"], refused["address"]) == ("wrong", "192.0.2.*")
    found = run.json("audit", "search", "--act", "account.register", "--since", "2020-01-01")
    assert len(found) == 2
    assert run.json("audit", "search", "--before", str(found[-1]["id"])) == []
    assert run.json("audit", "search", "--until", "2020-01-01T00:00:00Z") == []
    assert run("audit", "search", "--since", "yesterday") == 2
    assert "is no time" in run.err


def test_the_risk_of_a_sign_in_is_explained(
    database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    # AUTH-33
    kept: list[NewSignIn] = []

    async def one(database: Database) -> None:
        accounts = accounts_in_postgres(database)
        ada = await accounts.register()
        plain = sign_in_of("other")
        kept.append(replace(plain, arrival=judged(plain.reference)))
        assert await accounts.accounts.sign_in(ada.user_id, HASH, kept[0]) == 0

    def judged(reference: UUID) -> Arrival:
        def judge(arrival: Arrival, history: LoginHistory, _: Proven) -> Judgement:
            found = assessed(WeighedRisk(), arrival, history)
            return Judgement(Outcome.ENTERED, found, Outcome.LIMITED)

        return Arrival(reference, None, "password", "Firefox on Linux", judge=judge)

    on(database_url, one)
    run = Commands(database_url, capsys)
    told = run.one("risk", "explain", str(kept[0].reference))
    assert (told["score"], told["level"], told["factors"], told["outcome"], told["would_be"]) == (
        0.2, "low", "password +0.15, account_young +0.05", "entered", "limited",
    )  # fmt: skip
    for unknown in (str(uuid4()), "nonsense"):
        assert run("risk", "explain", unknown) == 3
        assert "is kept" in run.err
