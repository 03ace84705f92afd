"""What a supervisor decides: events in, moves out, without clock, task or randomness of its own.

Read `slots.py` (one child's place), `moves.py` (all that can be decided) and `policy.py` (what one
ending means, and how often a restart may be), then `static.py`. `dynamic.py` is its twin, told in
the same order; what both do alike stands in `machine.py`.
"""
