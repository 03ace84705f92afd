"""How many connections, how long they live, what a session is told; and the pool in numbers."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """The limits of a pool (STORE-33) and the settings of its sessions (STORE-23)."""

    connections_min: int = 2
    connections_max: int = 10
    acquire_s_max: float = 5.0
    idle_s_max: float = 600.0
    lifetime_s_max: float = 1800.0
    test_after_idle_s: float = 30.0
    statement_timeout_s: float = 30.0
    lock_timeout_s: float = 5.0
    idle_in_transaction_s_max: float = 60.0
    # Ten seconds above nine tenths is load, not a burst.
    saturated_above: float = 0.9
    saturated_after_s: float = 10.0

    def __post_init__(self) -> None:
        if not 1 <= self.connections_max <= 200:
            raise ValueError(f"connections_max must be 1 to 200, got {self.connections_max}")
        if self.connections_min < 0:
            raise ValueError(f"connections_min must be at least 0, got {self.connections_min}")
        for name in ("acquire_s_max", "idle_s_max", "lifetime_s_max", "statement_timeout_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")

    def session(self, part: str) -> dict[str, str]:
        """Call this to get what a new session is set to; times go as milliseconds."""
        return {
            "application_name": f"greenroom:{part}",
            "statement_timeout": f"{self.statement_timeout_s * 1000:.0f}",
            "lock_timeout": f"{self.lock_timeout_s * 1000:.0f}",
            "idle_in_transaction_session_timeout": f"{self.idle_in_transaction_s_max * 1000:.0f}",
            # Our statements are small: compiling them costs more than running them.
            "jit": "off",
        }


@dataclass(frozen=True, slots=True)
class PoolStats:
    """How the pool is; `is_saturated` degrades health."""

    size: int
    idle: int
    in_use: int
    waiting: int
    connections_max: int
    utilization: float
    is_saturated: bool


class Load:
    """Since when a pool is nearly all in use."""

    def __init__(self, settings: PoolSettings) -> None:
        self._settings = settings
        self._busy_since: float | None = None

    def note(self, used: float, now: float) -> None:
        """Call this with the part in use whenever it changes."""
        if used <= self._settings.saturated_above:
            self._busy_since = None
        elif self._busy_since is None:
            self._busy_since = now

    def is_saturated(self, now: float) -> bool:
        """Call this from any thread to ask whether that has lasted too long."""
        since = self._busy_since
        return since is not None and now - since >= self._settings.saturated_after_s
