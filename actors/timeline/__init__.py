"""The timeline: what a visitor's own requests have caused, remembered for a while. No input, output
or clock.

Read `words.py` (kinds, stages, a flow and its entries), `memory.py` (how many are kept, for whom
and for how long), `showing.py` (what of them may be seen: the words, the filter, the flows).
Who tells of it, and the pages it is shown on, are in `web.timeline`.

Our words: a *flow* is one request and all it has led to; an *entry* is one thing of that; a *scope*
is what entries are kept by, a request or a session.
"""

from actors.timeline.memory import (
    DIAGNOSTIC_ENTRIES_MAX,
    KEPT_S,
    LIVE_ENTRIES_MAX,
    REQUEST_SCOPES_MAX,
    SESSION_SCOPES_MAX,
    ExitWatch,
    Timeline,
)
from actors.timeline.showing import (
    FILTER_TERM_LENGTH_MAX,
    FILTER_TERMS_MAX,
    FLOWS_MAX,
    Shown,
    ShownFlow,
    flows_shown,
    json_record,
    newest_flows,
    parse_filter,
    shown_entries,
    shown_flow,
)
from actors.timeline.words import (
    STAGE_OF,
    Entry,
    Flow,
    Kind,
    Level,
    Stage,
    Values,
    is_hidden,
    level_of,
)

__all__ = [
    "DIAGNOSTIC_ENTRIES_MAX",
    "FILTER_TERMS_MAX",
    "FILTER_TERM_LENGTH_MAX",
    "FLOWS_MAX",
    "KEPT_S",
    "LIVE_ENTRIES_MAX",
    "REQUEST_SCOPES_MAX",
    "SESSION_SCOPES_MAX",
    "STAGE_OF",
    "Entry",
    "ExitWatch",
    "Flow",
    "Kind",
    "Level",
    "Shown",
    "ShownFlow",
    "Stage",
    "Timeline",
    "Values",
    "flows_shown",
    "is_hidden",
    "json_record",
    "level_of",
    "newest_flows",
    "parse_filter",
    "shown_entries",
    "shown_flow",
]
