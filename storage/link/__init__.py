"""Messages between nodes: adapters of the port `actors.cluster.link.port`.

`memory.py` is the running specification, with the faults that a server and its net can have.
`nats.py` is the link over NATS, which needs the extra `cluster` and is imported from there: the
handle that trio tasks hold, then `nats_session.py` (one life of it, on an asyncio loop),
`nats_client.py` (what the library lacks) and `nats_words.py` (settings, faults, pauses).
"""

from storage.link.memory import Direction, MemoryLink, MemoryLinkServer

__all__ = ["Direction", "MemoryLink", "MemoryLinkServer"]
