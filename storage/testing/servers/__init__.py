"""Servers for tests: a PostgreSQL with a fresh database for each, and a bad network before any.

`temporary.py` starts the first, `toxic_proxy.py` is the second; neither knows the other.
"""
