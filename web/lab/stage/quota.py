"""How often visitors may act in the lab (LAB-7)."""

from collections.abc import Callable

from web.routing.quota import Quota

# LAB-7: a person who crashes things for fun, not a script.
ACTIONS_PER_SESSION_MAX = 30
# A class room behind one address.
ACTIONS_PER_ADDRESS_MAX = 120
PERIOD_S = 60.0


class LabQuota(Quota):
    """Counts actions; `now` is the loop's clock."""

    def __init__(self, now: Callable[[], float]) -> None:
        super().__init__(
            now,
            "lab",
            per_session_max=ACTIONS_PER_SESSION_MAX,
            per_address_max=ACTIONS_PER_ADDRESS_MAX,
            period_s=PERIOD_S,
        )
