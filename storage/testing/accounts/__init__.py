"""Accounts as tests: `members.py` are people, their sign-ins and counted tries.

`links.py` are links that sign in.
"""
