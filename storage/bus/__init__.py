"""The event bus: engines of the port that `actors.persistence.bus` declares.

- `memory`: in one process, the running specification, read first;
- `postgres`: the default between processes, needs nothing but the store's database; `gathering` is
  how publishes share its statements;
- `kafka`: Kafka or Redpanda; imported by its own name, for it needs the extra `kafka`. Beside it
  `kafka_words` (settings, errors) and `kafka_member` (the thread that polls).

A subscription is the same on all of them: an engine keeps records and offsets, and says which
member has which partition.
"""

from storage.bus.memory import BusTables, MemoryBus
from storage.bus.postgres import PostgresBus, Retention

__all__ = ["BusTables", "MemoryBus", "PostgresBus", "Retention"]
