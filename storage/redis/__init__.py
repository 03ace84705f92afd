"""Redis, or Valkey: a client on trio, and what is kept there (PROJ-12, AUTH-40).

Read `codec.py` (bytes to replies and back, no socket), then `words.py` (where a server is, and what
can go wrong), then `client.py`: one connection that all callers share, and that comes back by
itself. `rate_limits.py` is the port `RateLimiter` on it, `projections.py` the port
`ProjectionStore`, whose checkpoints another store keeps.
"""

from storage.beside_books import ReadModelLost
from storage.redis.client import RedisActor, RedisClient, open_redis
from storage.redis.projections import RedisProjections
from storage.redis.rate_limits import RedisRateLimiter
from storage.redis.words import RedisRefused, RedisRejected, RedisSettings, Script

__all__ = [
    "ReadModelLost",
    "RedisActor",
    "RedisClient",
    "RedisProjections",
    "RedisRateLimiter",
    "RedisRefused",
    "RedisRejected",
    "RedisSettings",
    "Script",
    "open_redis",
]
