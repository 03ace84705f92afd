"""Commands that read the log: its streams, their events, and the states that these make.

Read `showing.py` (how an event, a state and a difference are told), `log.py` (`streams`, `events`,
`follow`), `folding.py` (pure: one event after the other), `finding.py` (whose `apply` it is),
`tape.py` (the steps of a stream), then `replay.py`, and `stepping.py` for its keys.

Rule: nothing here changes anything, and what is private stays sealed unless it is asked for with a
reason, which the audit keeps.
"""
