"""What must hold of a crowd, whatever was done to the nodes: pure counts, and what is stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from tests.nodes.crowd import Crowd
from tests.nodes.kit import Nodes


def judge(nodes: Nodes, crowd: Crowd) -> list[str]:
    """Call this for what is wrong: posts lost or doubled, programs that missed some."""
    rows = nodes.rows("SELECT client_id FROM chat_messages")
    return [
        *judge_posts(crowd.figures.accepted, crowd.said, [row["client_id"] for row in rows]),
        *(f"a program missed {missed}" for one in crowd.programs if (missed := one.missed())),
        *("a program was told twice" for one in crowd.programs if not one.is_in_order()),
        *([f"{crowd.figures.gaps} programs were told of a gap"] if crowd.figures.gaps else []),
    ]


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
        "gaps": figures.gaps,
        "reloads": figures.reloads,
    }


_UNEVEN = """
SELECT stream_id, count(*) AS events, min(version) AS first, max(version) AS last
FROM events GROUP BY stream_id HAVING count(*) <> max(version) - min(version) + 1
"""


def judge_store(nodes: Nodes) -> list[str]:
    """Call this for streams with holes in them, and for what the outbox still holds."""
    left = nodes.rows("SELECT count(*) AS rows FROM outbox WHERE sent_at IS NULL")[0]["rows"]
    return [
        *(f"{row['stream_id']} has holes: {dict(row)}" for row in nodes.rows(_UNEVEN)),
        *([f"the outbox holds {left}"] if left else []),
    ]
