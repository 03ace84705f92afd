"""The address of a database holds a password: nothing that holds or reports it shows it."""

from __future__ import annotations

import asyncpg
import pytest

from actors.runtime import Secret, presentable
from storage.errors import StoreError
from storage.postgres import Database, PoolSettings
from storage.postgres.connecting.pool import Pool
from storage.postgres.connecting.session import translate

URL = "postgresql://me:hunter2@db.example/site"


@pytest.mark.parametrize("url", [URL, Secret(URL)])
def test_who_holds_an_address_does_not_show_it(url: str | Secret[str]) -> None:
    # SEC-131
    database = Database(url)
    pool = Pool(database.url, "store", PoolSettings())
    shown = [repr(database), repr(vars(database)), repr(vars(pool)), repr(presentable(vars(pool)))]
    assert [text for text in shown if "hunter2" in text] == []
    assert database.url.reveal() == URL


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.ClientConfigurationError(f"invalid DSN: {URL!r}"),
        asyncpg.InvalidPasswordError(f"{URL} is refused"),
        OSError(f"cannot reach {URL}?password=hunter2"),
    ],
)
def test_what_a_driver_says_is_passed_on_without_passwords(error: Exception) -> None:
    # SEC-131
    word = translate(error, 1.0)
    assert isinstance(word, StoreError)
    assert "hunter2" not in str(word)
    assert "postgresql://me:***@db.example/site" in str(word)
