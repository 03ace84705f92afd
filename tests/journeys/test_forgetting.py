"""Somebody is forgotten by another process than the site: what its open pages show then."""

from __future__ import annotations

import pytest

from storage.postgres import system_user
from tests.journeys.kinds import StartSite
from tests.journeys.visitor import Visitor
from tests.web.cli.commanding import Commands, fetch

pytestmark = pytest.mark.slow


def test_a_running_site_hears_of_it_and_tells_its_open_pages(
    start_site: StartSite, database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """STORE-44 CLI-20: the two share nothing but the store."""
    site, run = start_site(DATABASE_URL=database_url), Commands(database_url, capsys)
    visitor = Visitor(site.url)
    visitor.open_lab()
    with visitor.open_stream() as stream:
        assert visitor.post("remember me not").status == 202
        stream.read_until(b"remember me not")
        days = "SELECT subject FROM subject_keys WHERE subject LIKE 'room:%'"
        ((subject,),) = fetch(database_url, days)
        assert isinstance(subject, str)
        assert run("store", "forget", subject) == 2
        assert "nobody can be asked" in run.err
        assert run("store", "forget", "user:nobody", "--yes") == 3
        assert run("store", "forget", "", "--yes") == 2
        assert "remember me not" in visitor.page("/lab").text
        done = run.one("store", "forget", subject, "--yes", "--reason", "as asked")
        assert done == {"subject": subject, "forgotten": "now"}
        stream.read_until(b"(erased)")
        assert "remember me not" not in visitor.page("/lab").text
    assert run.one("store", "forget", subject, "--yes")["forgotten"] == "before"
    advance = run.one("store", "forget", "user:nobody", "--yes", "--in-advance")
    assert advance["forgotten"] == "now"
    audit = "SELECT actor, action, resource FROM audit_log WHERE resource = $1 ORDER BY action"
    assert fetch(database_url, audit, subject) == [
        (system_user(), "store forget", subject),
        (system_user(), "subject.forget", subject),
    ]
