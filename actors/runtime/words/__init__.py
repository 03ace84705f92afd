"""Words: frozen data and plain sums that every other chapter speaks with. Nothing here runs.

Read `messages.py` (how a message is declared), `exits.py` (how an actor ended), `errors.py` (what
a caller can be told); then `showing.py` (values of user code as text, secrets hidden),
`weighing.py` (about how many bytes they hold), `counting.py` (what is counted and measured of an
actor) and `tallies.py` (figures of whoever keeps some, for operators).
"""
