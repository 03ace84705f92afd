"""One way to write the policies."""

from supervision import ONCE, BreakerPolicy, Dependencies, DependencyPolicy, RetryPolicy

RATES = DependencyPolicy(deadline=3.0, attempt=0.5, retry=RetryPolicy(attempts=3))
PAYMENTS = DependencyPolicy(
    deadline=2.0, attempt=2.0, retry=ONCE, breaker=BreakerPolicy(failures=3, open_for=30.0)
)

outside = Dependencies({"rates": RATES, "payments": PAYMENTS})
