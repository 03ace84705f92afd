"""Messages between nodes: adapters of the port `actors.cluster.link.port`.

`memory.py` is the running specification, with the faults that a server and its net can have.
"""

from storage.link.memory import Direction, MemoryLink, MemoryLinkServer

__all__ = ["Direction", "MemoryLink", "MemoryLinkServer"]
