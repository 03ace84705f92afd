"""What must hold of a crowd, whatever was done to the nodes: pure counts, and what is stored."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence

from tests.nodes.crowd import Crowd
from tests.nodes.kit import Nodes

POSTS = "every accepted post is there, once, and no other"
SOON = "the nodes share all shards soon after the last fault"
# CLU-43, for `make soak`: the machine is its own. Elsewhere it may be any time.
CONVERGED_S_MAX = float(os.environ.get("CONVERGED_S_MAX", "inf"))
STORE = "streams have no holes, and the outbox is empty"


def judge(nodes: Nodes, crowd: Crowd) -> list[str]:
    """Call this for what is wrong: posts lost or doubled, programs that missed some."""
    return [wrong for found in invariants(nodes, crowd).values() for wrong in found]


def invariants(nodes: Nodes, crowd: Crowd) -> Mapping[str, Sequence[str]]:
    """Call this for what must hold of a crowd, each with what is wrong of it."""
    rows = nodes.rows("SELECT client_id FROM chat_messages")
    stored = [row["client_id"] for row in rows]
    return {**judge_crowd(crowd), POSTS: judge_posts(crowd.figures.accepted, crowd.said, stored)}


def judge_crowd(crowd: Crowd) -> Mapping[str, Sequence[str]]:
    """Call this for what is wrong of what a crowd saw, by what should have been."""
    gaps, silent = crowd.figures.gaps, sorted(crowd.said - crowd.figures.accepted.keys())
    programs = list(enumerate(crowd.programs))
    return {
        "every post ends": [f"{one} was never accepted" for one in silent],
        "all hear the last word": [f"{one} did not" for one in crowd.deaf()],
        "programs hear every event, once and in order": [
            *(f"program {at} missed {missed}" for at, one in programs if (missed := one.missed())),
            *(f"program {at} was told twice" for at, one in programs if not one.is_in_order()),
            *([f"{gaps} programs were told of a gap"] if gaps else []),
        ],
    }


def judge_posts(accepted: Mapping[str, float], said: set[str], stored: Sequence[str]) -> list[str]:
    """Call this for posts that were accepted and are not there, are there twice, or nobody said."""
    found = Counter(stored)
    return [
        *(f"{one} was accepted and is lost" for one in sorted(accepted.keys() - found.keys())),
        *(f"{one} is there {count} times" for one, count in sorted(found.items()) if count > 1),
        *(f"{one} was never said" for one in sorted(found.keys() - said)),
    ]


def say(crowd: Crowd) -> dict[str, object]:
    """Call this for the figures, as a run prints them."""
    figures = crowd.figures
    return {
        "accepted": len(figures.accepted),
        "post_ms": {
            share: round(figures.post_s(share / 100) * 1000) for share in (50, 95, 99, 100)
        },
        "refused": dict(figures.refused),
        "streams": figures.pages,
        "streams_refused": dict(figures.streams_refused),
        "away_s_max": round(max(figures.away_s, default=0), 2),
        "away_s": [round(one, 2) for one in sorted(figures.away_s)[len(figures.away_s) // 2 :][:1]],
        "silent_s_max": round(max(figures.silent_s, default=0), 2),
        "said": len(crowd.said),
        "held": figures.held,
        "events": [len(one.places) for one in crowd.programs],
        "gaps": figures.gaps,
        "reloads": figures.reloads,
    }


_UNEVEN = """
SELECT stream_id, count(*) AS events, min(version) AS first, max(version) AS last
FROM events GROUP BY stream_id HAVING count(*) <> max(version) - min(version) + 1
"""


def judge_soon(converged_s: float, limit_s: float = CONVERGED_S_MAX) -> list[str]:
    """Call this for nodes that took too long to share all again behind the last fault."""
    return [f"it took {converged_s:.1f} s"] if converged_s > limit_s else []


def judge_store(nodes: Nodes) -> list[str]:
    """Call this for streams with holes in them, and for what the outbox still holds."""
    left = nodes.rows("SELECT count(*) AS rows FROM outbox WHERE sent_at IS NULL")[0]["rows"]
    return [
        *(f"{row['stream_id']} has holes: {dict(row)}" for row in nodes.rows(_UNEVEN)),
        *([f"the outbox holds {left}"] if left else []),
    ]
