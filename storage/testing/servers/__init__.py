"""Servers for tests: a PostgreSQL with a fresh database for each, a bad network, a violent end.

`temporary.py` starts the first, `toxic_proxy.py` is the second, `kill_loop.py` ends a program again
and again; none knows the others.
"""
