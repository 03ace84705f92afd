"""What only asks changes nothing: every GET, HEAD and OPTIONS of the site, against its tables."""

from __future__ import annotations

import pytest

from tests.journeys.kinds import StartSite
from tests.journeys.visitor import Visitor
from tests.web.accounts.test_entering import ADA
from tests.web.cli.commanding import Commands, fetch
from tests.web.routing.test_routes_complete import ROUTES, SAMPLES
from web.routing import paths

pytestmark = pytest.mark.slow

# Who names another method than the one of the request is not heard.
OVERRIDES = {
    "x-http-method-override": "POST",
    "x-http-method": "DELETE",
    "x-method-override": "PUT",
}
# When a sign-in was last used is shown to its owner (SITE-45); that somebody asked is the fact.
BY_ASKING = {"sign_ins": "seen_at"}
# Who holds a part of the outbox renews that every few seconds, whoever asks.
BY_THE_CLOCK = {"outbox_leases"}


def tables(url: str) -> dict[str, list[object]]:
    """All rows of all tables, but what asking is meant to change."""
    named = fetch(url, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    found: dict[str, list[object]] = {}
    for (name,) in named:
        left_out = f" - '{BY_ASKING[str(name)]}'" if name in BY_ASKING else ""
        statement = f'SELECT (to_jsonb(t){left_out})::text AS r FROM "{name}" t ORDER BY r'  # noqa: S608
        rows = fetch(url, statement)
        found[str(name)] = [row for (row,) in rows]
    return found


def test_asking_changes_no_table(
    start_site: StartSite, database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """SEC-34: each page twice, for a guest and a moderator, also with another method's name."""
    site = start_site(DATABASE_URL=database_url)
    guest, moderator = Visitor(site.url), Visitor(site.url)
    for visitor in (guest, moderator):
        visitor.open_lab()
    assert moderator.form("/register", ADA).status == 303
    assert Commands(database_url, capsys)("roles", "grant", "moderator", "ada", "--yes") == 0
    moderator.open_lab()
    assert moderator.post("a message").status == 202
    asked = [SAMPLES.get(path, path) for path, methods in ROUTES.items() if "GET" in methods]
    before = tables(database_url)
    assert {"chat_messages", "sign_ins", "events"} <= {name for name in before if before[name]}
    statuses = set[int]()
    for _ in range(2):
        for visitor in (guest, moderator):
            for path in asked:
                for method in ("GET", "HEAD", "OPTIONS"):
                    answer = visitor.request(method, f"{path}?_method=POST", None, OVERRIDES)
                    statuses.add(answer.status)
    assert statuses <= {200, 204, 303, 308, 400, 401, 403, 404, 405, 500}
    assert moderator.get(paths.AUDIT).status == 200
    after = tables(database_url)
    assert {name for name in before if before[name] != after[name]} <= BY_THE_CLOCK
