"""The demos beside the timeline: small commands whose whole way a visitor can follow there.

Read `counter.py` (a number that all tabs of a browser share, one actor a browser session),
`errands.py` (what runs one after the other, and what is cancelled; pure), `desk.py` (the actor of
one open page that carries errands out), `panels.py` (what each of the six panels finds out),
then `routes.py`.
"""
