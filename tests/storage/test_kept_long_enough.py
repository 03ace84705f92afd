"""What people left behind goes by itself when its time is over, and not before."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from actors.accounts import NewAccount
from actors.accounts.kept.risk.port import PLACES_KEPT
from actors.accounts.kept.risk.words import Outcome, Place
from actors.chat import ROOM_NAMES
from actors.persistence import CleanUp
from actors.runtime import Secret, open_actors
from storage.keyring import SubjectKeyring
from storage.postgres import Database, PostgresChatLog, PostgresSubjectKeys
from storage.testing.accounts.devices import arriving, enter
from storage.testing.accounts.members import HASH, accounts_in_postgres, sign_in_of
from storage.testing.chat_log import draft
from tests.patience import until
from web.app import make_cleaner


async def test_what_people_left_goes_when_its_time_is_over(database: Database) -> None:
    # SEC-134: by the actor that the site runs under its root
    keyring = SubjectKeyring(PostgresSubjectKeys(database), Secret(b"k" * 32))
    log = PostgresChatLog(database, keyring)
    await log.ensure_rooms(ROOM_NAMES)
    for days in (366, 364, 31, 29):
        said = draft(f"{days} days", client_id=f"c{days}")
        await log.post(replace(said, created_at=datetime.now(UTC) - timedelta(days=days)))
    kept = accounts_in_postgres(database)
    ada = NewAccount(uuid4(), "ada", "ada@example.org", HASH)
    assert await kept.accounts.register(ada, sign_in_of("ada")) is None
    place = Place("AT", 48.25, 16.5)
    await enter(kept, ada.user_id, arriving("one", outcome=Outcome.REFUSED, place=place))
    await kept.pass_time(PLACES_KEPT + timedelta(hours=1))
    await enter(kept, ada.user_id, arriving("two", outcome=Outcome.REFUSED, place=place))
    expected = {"chat_messages": 3, "chat_texts": 3, "audit": 1, "logins": 1}
    cleaner = make_cleaner(database, keyring)
    async with open_actors() as system:
        ref = await system.start(lambda: cleaner)
        ref.tell(CleanUp())
        await until(lambda: all(cleaner.removed[name] for name in expected))
    assert {name: cleaner.removed[name] for name in expected} == expected
