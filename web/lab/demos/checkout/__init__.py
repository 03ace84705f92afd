"""A checkout that a visitor starts, watches, breaks, and sees taken back: a saga of this site.

Read `steps.py` (the saga: five steps, and what is said to whom), `counterparts.py` (who carries
them out, each from a log of its own), `actor.py` (its actors, its relay, its timers, and who
wakes them at a start), `visitors.py` (which are whose, and what may be done to them), then
`routes.py`, and `across.py` for a site of several nodes.
"""
