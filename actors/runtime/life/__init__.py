"""One actor: what stays of it, and its incarnations, from `__init__` to an exit.

Read `cell.py` first: who tells whom, and in which order. Then `lifecycle.py` (the steps of an
incarnation, with a task or without) and `loop.py` (what is done with one message). What they are
given: `hooks.py` (settings and hooks of a class), `handlers.py` (which method handles which
message), `gathering.py` (one that takes several together), `child_tasks.py` (`self.start_soon`),
`resting.py` (when an idle task is given back), `letting_go.py` (how a large state is freed).
"""
