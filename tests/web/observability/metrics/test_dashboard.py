"""The shipped dashboard names metrics that exist, each panel once, none on another."""

from __future__ import annotations

import itertools
from pathlib import Path

import msgspec
import pytest

from tests.web.observability.metrics.test_alert_rules import names_in
from web.observability.metrics import METRICS

ROOT = Path(__file__).parents[4]
FILE = ROOT / "web" / "observability" / "shipped" / "dashboard.json"


class _Place(msgspec.Struct):
    x: int
    y: int
    w: int
    h: int


class Query(msgspec.Struct, rename="camel"):
    """What a panel asks."""

    expr: str
    ref_id: str


class Panel(msgspec.Struct, rename="camel"):
    """One panel, or the title of a row of them."""

    id: int
    type: str
    title: str
    grid_pos: _Place
    targets: list[Query] = msgspec.field(default_factory=list)


class Dashboard(msgspec.Struct):
    """What Grafana reads of the file that is ours to keep in order."""

    uid: str
    panels: list[Panel]


def dashboard() -> Dashboard:
    """Call this for the shipped one."""
    return msgspec.json.decode(FILE.read_bytes(), type=Dashboard)


def queries() -> list[tuple[str, str]]:
    """Call this for every query with the title of its panel."""
    return [(panel.title, one.expr) for panel in dashboard().panels for one in panel.targets]


def test_every_metric_that_a_panel_names_exists() -> None:
    # OBS-6
    for title, expr in queries():
        named = names_in(expr)
        assert named, title
        assert named - set(METRICS) == set(), title
    assert names_in("rate(greenroom_no_such_thing_total[1m])") - set(METRICS)


def test_every_panel_has_a_place_and_a_name_of_its_own() -> None:
    panels = dashboard().panels
    assert len({one.id for one in panels}) == len(panels)
    shown = [one for one in panels if one.type != "row"]
    assert len({one.title for one in shown}) == len(shown) >= 20
    assert all(one.targets for one in shown)
    taken = [
        set(itertools.product(range(at.x, at.x + at.w), range(at.y, at.y + at.h)))
        for at in (one.grid_pos for one in panels)
    ]
    assert all(max(x for x, _ in one) < 24 for one in taken)
    for one, other in itertools.combinations(taken, 2):
        assert not one & other


@pytest.mark.parametrize("part", ["_bucket", "_sum", "_count"])
def test_a_quantile_is_asked_of_buckets_by_their_bounds(part: str) -> None:
    for title, expr in queries():
        if "histogram_quantile" in expr:
            assert "by (le" in expr, title
            assert "_bucket[" in expr, title
        elif part != "_bucket":
            assert f"{part}[" not in expr or "/" in expr, title
