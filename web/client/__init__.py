"""Clients of the WebSocket protocol: for Python here, for browsers and Node in `greenroom.js`.

Read `session.py` first (what is said and what a frame means, without any I/O), then `client.py`
(the connection that is kept), then `errors.py`. `greenroom.js` does the same in the same order, and
`react.js` holds hooks around it; the `.d.ts` files are their types. Both are held against the same
frames as the server (`tests/web/frames.json`).

    async with connect("wss://example.org/ws") as client:
        async with client.subscribe("room:lobby") as heard:
            await client.command({"PostMessage": {"body": "hello", "client_id": "1"}})
            async for one in heard:
                print(one)
"""

from web.client.client import Client, ClientSettings, State, Subscription, connect
from web.client.errors import (
    ClientClosed,
    ClientError,
    CommandOverdue,
    CommandRefused,
    QueueFull,
)
from web.client.session import Acknowledged, Gap, TopicEvent

__all__ = [
    "Acknowledged",
    "Client",
    "ClientClosed",
    "ClientError",
    "ClientSettings",
    "CommandOverdue",
    "CommandRefused",
    "Gap",
    "QueueFull",
    "State",
    "Subscription",
    "TopicEvent",
    "connect",
]
