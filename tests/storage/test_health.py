"""Health tells what holds the store back, and by whom."""

from pathlib import Path

import pytest
import trio

from storage.postgres import Database, check_health
from storage.postgres.connecting.health import CHECK_S_MAX, OldestTransaction, judge
from storage.testing.samples import PATIENCE_S


async def test_a_served_database_is_healthy(database: Database) -> None:
    # SITE-183
    health = await check_health(database)
    assert (health.status, health.message) == ("healthy", "")


async def test_a_cut_database_is_unhealthy_at_once(tmp_path: Path) -> None:
    # SITE-183
    database = Database(f"postgresql://postgres@/nothing?host={tmp_path}")
    async with trio.open_nursery() as nursery:
        await nursery.start(database.serve)
        with trio.fail_after(PATIENCE_S):
            health = await check_health(database)
        nursery.cancel_scope.cancel()
    assert health.status == "unhealthy"
    # Of what the database may take; the rest is the machine's.
    assert CHECK_S_MAX <= 1.0


@pytest.mark.parametrize(
    ("age_s", "status", "is_told"),
    [(3.0, "healthy", False), (12.0, "healthy", True), (61.0, "degraded", True)],
)
def test_an_old_transaction_is_named(age_s: float, status: str, is_told: bool) -> None:
    # STORE-23
    found, text = judge(OldestTransaction(age_s, 77, "psql"), is_saturated=False)
    assert found == status
    assert ("psql (pid 77)" in text) is is_told


def test_a_saturated_pool_degrades() -> None:
    # STORE-33
    assert judge(None, is_saturated=True)[0] == "degraded"
