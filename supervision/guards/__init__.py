"""Guards around a call to somebody who may fail; none of them knows of supervisors.

Outermost first: `bulkhead.py` (so many calls at once), `breaker.py` (leave alone what fails),
`retry.py` (try again), `bucket.py` (so many calls a second). `dependency.py` is all of them around
one thing outside the process, by its name. `fallback.py` is what to answer when all that did not
help.
"""
