"""How an actor is reached wherever it lives: what a program has of a cluster of its nodes.

Read `words.py` (how a message can end), `ref.py` (what callers hold), `routing.py` (where a message
goes), `hosting.py` (the actors that live here), then `peer.py` and `talking` (frames to other
nodes and from them), `watching.py`, `everyone` (topics, presence), and `cluster.py`, which puts
them together.
"""
