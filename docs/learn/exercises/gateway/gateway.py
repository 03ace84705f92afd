"""What a program calls outside, each with its own limits.

Write the two policies. `rates` is only read: it may be tried three times in all, each attempt has
0.5 seconds and the whole 3. `payments` takes money: it is never tried again by itself, has 2
seconds, and is left alone for 30 seconds after 3 failures in a row.
"""

from supervision import Dependencies, DependencyPolicy

RATES = DependencyPolicy()
PAYMENTS = DependencyPolicy()

outside = Dependencies({"rates": RATES, "payments": PAYMENTS})
