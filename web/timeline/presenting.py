"""What the timeline knows, as what its panel shows. Pure."""

from collections.abc import Sequence

from actors.timeline import Shown, ShownFlow
from web.views import EventView, FlowDetailView, FlowView, PairView, TimelineView, element_id


def timeline_view(flows: Sequence[ShownFlow], chosen: ShownFlow | None) -> TimelineView:
    """Call this for the whole panel; `chosen` may be one that is in the list no more."""
    listed = tuple(
        FlowView(
            id=element_id(flow.request_id),
            short=flow.short_id,
            title=flow.title,
            at=flow.at,
            status=flow.status,
            is_chosen=chosen is not None and flow.request_id == chosen.request_id,
        )
        for flow in flows
    )
    return TimelineView(listed, None if chosen is None else _detail(chosen, flows))


def _detail(flow: ShownFlow, listed: Sequence[ShownFlow]) -> FlowDetailView:
    return FlowDetailView(
        short=flow.short_id,
        title=flow.title,
        status=flow.status,
        is_listed=any(one.request_id == flow.request_id for one in listed),
        events=tuple(map(event_view, flow.entries)),
    )


def event_view(entry: Shown) -> EventView:
    """Call this for one entry."""
    pairs = tuple(PairView(name, value) for name, value in entry.values)
    return EventView(entry.at, str(entry.stage), str(entry.kind), str(entry.level), pairs)
