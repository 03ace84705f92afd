"""What roles may do.

`access.py` says of every route who may use it; `operating.py` are the pages of operators: who is
signed in, and what was done with accounts.
"""
