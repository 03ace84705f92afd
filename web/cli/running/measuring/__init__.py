"""`greenroom bench`: what this machine does with the runtime and the store, in about ten seconds.

Read `words.py` (what is measured, and how rounds become a figure), `actors.py`, `stores.py` and
`sagas.py` (what is done in each), `scratch.py` (the database of its own that it is done in), then
`command.py`, which takes them by turns. The benchmarks that are held against targets and peers
are not these: they are `make bench` of a clone.
"""
