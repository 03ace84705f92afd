"""Checkouts of the lab on three nodes and one database: one sends, and is followed when it dies."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.journeys.site_process import SiteProcess
from tests.journeys.test_one_site_of_nodes import at
from tests.journeys.test_process import SagaTold, press, wait_for_saga
from tests.journeys.visitor import Visitor
from tests.nodes import Nodes, missing, until
from web.lab.demos.checkout.actor import CLOCK, RELAY

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(missing()), reason=missing())]

# What each counterpart did, by the streams they decide from.
_DONE = """
SELECT count(*), count(DISTINCT stream_id) FROM events
WHERE stream_id LIKE 'lab!_step-%' ESCAPE '!' AND event_type = 'LabStepDone'
"""
_UNSENT = "SELECT count(*) FROM outbox WHERE sent_at IS NULL AND headers ? 'saga-id'"


def begin(site: SiteProcess) -> tuple[Visitor, SagaTold]:
    """A visitor of this node, and their checkout, which waits for them."""
    visitor = Visitor(site.url)
    press(visitor, "", choice="well")
    return visitor, wait_for_saga(visitor, lambda saga: "confirm" in saga.under_way)


def confirm(site: SiteProcess, visitor: Visitor, begun: SagaTold) -> None:
    """What any node does for them, whoever began it."""
    here = at(site, visitor)
    press(here, f"/{begun.id}/confirm")
    over = wait_for_saga(here, lambda saga: saga.id == begun.id and saga.status == "completed")
    assert [one.attempt for one in over.steps] == [1] * 5


@pytest.mark.long
def test_one_node_sends_for_all_and_another_when_it_is_killed(tmp_path: Path) -> None:
    # LAB-35, SAGA-6, SAGA-7, CLU-15, REL-44
    with Nodes(tmp_path, "abc") as nodes:
        begun = {name: begin(site) for name, site in nodes.sites.items()}
        ((leases,),) = nodes.rows(
            "SELECT count(DISTINCT owner) FROM outbox_leases WHERE partition IN (10, 11)"
        )
        assert leases == 1
        killed = nodes.owner_of_singleton(RELAY)
        nodes.kill(killed)
        left, right = (site for name, site in nodes.sites.items() if name != killed)
        # Begun on the dead one and on a living one; the one that goes on was neither's, or is.
        confirm(left, *begun.pop(killed))
        until(lambda: nodes.owner_of_singleton(RELAY) != killed)
        until(lambda: nodes.owner_of_singleton(CLOCK) != killed)
        # A planned end with some that wait: nothing is lost, and it is in time.
        leaving = nodes.owner_of_singleton(RELAY)
        staying = right if nodes.sites[leaving] is left else left
        more = begin(staying)
        assert nodes.stop(leaving) == 0
        for visitor, saga in (*begun.values(), more):
            confirm(staying, visitor, saga)
        until(lambda: nodes.rows(_UNSENT)[0][0] == 0)
        # Four steps of four checkouts, each once; the fifth is the visitor's.
        assert tuple(nodes.rows(_DONE)[0]) == (16, 16)
