"""Accounts on the web: who is signed in on a request, and the pages that sign in and out.

Read `identity.py` (the cookie of a sign-in, and whose it is), `hashing.py` (passwords, in threads
of their own), then `entering.py` (what a registration and a login do) with `routes.py`, and
`own/` (what members do to their own account). `methods.py` says which ways to sign in there are,
`second.py` asks for a second factor.
The rules stand in `actors.accounts`.
"""
