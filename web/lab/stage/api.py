"""A sandbox as JSON (LAB-4): what `/api/lab/tree` answers.

Only the visitor's own: paths begin at the desk, and nothing names the sandbox itself.
"""

from collections.abc import Mapping

import trio

from actors.runtime import Cell
from supervision import tree_of
from web.lab.sandbox.sandboxes import Sandbox, Sandboxes
from web.lab.sandbox.words import ABOVE, DESK, Place
from web.views import NodesView

# Of ACT-104 what may be shown: everything but what names actors outside.
_FIELDS = (
    "class", "kind", "incarnation", "started_at", "status", "status_since", "current", "handled",
    "reductions", "busy_seconds", "queued", "system_queued", "stashed", "peak", "capacity",
    "waiting_senders", "overflowed", "coalesced", "expired", "unhandled", "withdrawn",
    "late_replies", "crashes", "restarts", "restart_window", "next_restart_at",
)  # fmt: skip


def topic_name(sandbox: Sandbox) -> str:
    """Call this for the topic on `/ws` where the changes of a sandbox are told."""
    return f"tree:{sandbox.record}"


def tree_json(
    sandboxes: Sandboxes, sandbox: Sandbox, nodes: NodesView | None = None
) -> dict[str, object]:
    """Call this for a snapshot; `seq` is that of the last change it holds, of its `topic`.

    The shared sandbox has no topic: nothing happens there. `cluster` is how the nodes stand that
    serve the site together, null where there is one process.
    """
    cells = sandboxes.cells(sandbox)
    return {
        "epoch": sandbox.record,
        "seq": sandbox.seq,
        "topic": topic_name(sandbox) if sandbox.is_own else None,
        "at": trio.current_time(),
        "own": sandbox.is_own,
        "counts": {
            "sent": sandbox.props.sent,
            "received": sandbox.props.received,
            "lost": sandbox.props.lost,
            "doubled": sandbox.props.doubled,
        },
        "cluster": None if nodes is None else nodes.to_json(),
        "actors": [actor_json(sandboxes, sandbox, place, cells) for place in cells],
    }


def actor_json(
    sandboxes: Sandboxes, sandbox: Sandbox, place: Place, cells: Mapping[Place, Cell]
) -> dict[str, object]:
    """Call this for one actor that is there."""
    cell, above, root = cells[place], ABOVE[place], sandbox.root or ""
    stats = sandboxes.system.stats(cell.ref).to_json()
    node = tree_of(sandboxes.system).node(cell)
    return {
        "id": place,
        "path": DESK + cell.path[len(root) :],
        "supervisor": above,
        **{name: stats[name] for name in _FIELDS},
        "strategy": node.strategy,
        "restart": node.restart,
        "restart_s": node.restart_s,
        "window": None
        if node.window is None
        else {"used": node.window.used, "max": node.window.max, "period": node.window.period},
        "children": node.children,
        "about": node.about,
        "last_exits": [
            {
                "kind": note.exit.kind,
                "error": note.exit.error,
                "message": note.exit.message,
                "because": note.exit.because,
                "incarnation": note.exit.incarnation,
                "at": note.exit.at,
                "leaves": list(note.leaves),
            }
            for note in sandbox.stories.exits[place]
        ],
    }
