"""Read models: what the log means, kept as documents that can be thrown away and built again.

Read `projection.py` (what a program defines), `store.py` (the port: documents, checkpoints,
generations), `reading.py` and `applying.py` (one batch), then `filling.py` (one generation, from
the log) and `runner.py` (the actor that keeps filled what serves), `waiting.py` (reading one's own
writes), `searching.py` (finding documents by words), `cached.py` (keeping some in memory) and
`inline.py` (those few that are part of an append).
"""
