"""`greenroom roles` on a real database: codes, words, what is changed and kept of it."""

import pytest

from storage.postgres import Database
from storage.testing.accounts.members import accounts_in_postgres
from tests.web.cli.commanding import Commands, fetch, on


def test_roles_are_given_and_taken_by_name(
    database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    # SITE-49, SEC-78, SEC-134: in the audit by a bare id, which outlives the name
    async def register(database: Database) -> None:
        await accounts_in_postgres(database).register("ada")

    on(database_url, register)
    run = Commands(database_url, capsys)
    assert fetch(database_url, "SELECT username FROM users WHERE role <> 'user'") == []
    assert run("roles", "grant", "moderator", "nobody", "--yes") == 3
    assert "there is no member 'nobody'" in run.err
    assert run("roles", "grant", "moderator", "demo bot", "--yes") == 3
    for wrong in (("user", "ada"), ("moderator",), ()):
        with pytest.raises(SystemExit) as ended:
            run("roles", "grant", *wrong)
        assert ended.value.code == 2
    capsys.readouterr()
    assert run("roles", "grant", "moderator", "ada") == 2  # nobody can be asked
    told = run.one("roles", "grant", "moderator", " ADA ", "--yes", "--reason", "first")
    assert told == {"username": "ada", "before": "user", "role": "moderator"}
    again = run.one("roles", "grant", "moderator", "ada", "--yes")
    assert again == {"username": "ada", "before": "moderator", "role": "moderator"}
    other = run.one("roles", "revoke", "admin", "ada", "--yes")
    assert other == {"username": "ada", "before": "moderator", "role": "moderator"}
    taken = run.one("roles", "revoke", "moderator", "ada", "--yes")
    assert taken == {"username": "ada", "before": "moderator", "role": "user"}
    ((ada,),) = fetch(database_url, "SELECT id::text FROM users WHERE username = 'ada'")
    audit = fetch(
        database_url,
        "SELECT action, resource, success, metadata ->> 'reason' FROM audit_log"
        " WHERE event_type = 'command' OR action = 'account.role' ORDER BY id",
    )
    assert audit == [
        ("roles grant", f"{ada} moderator", True, "first"),
        ("account.role", ada, True, None),
        ("roles revoke", f"{ada} moderator", True, ""),
        ("account.role", ada, True, None),
    ]
