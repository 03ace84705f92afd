"""A program of several nodes with all that a program may have, to be struck at random (CLU-43).

Read `words.py` (what is asked and stored), `program.py` (the program: `python -m
tests.nodes.shop.program`), then `judging.py` (what must hold of it, from what is stored).
"""
