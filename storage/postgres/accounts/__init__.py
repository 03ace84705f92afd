"""What is kept of accounts in PostgreSQL; the twin of `storage/memory/accounts/`.

Read `audit.py` first: what every act leaves. Then `members.py` (accounts and their sign-ins),
`sessions.py` (browser sessions that are over, tickets of sockets), `kept/` (counted tries, and
sign-ins with their risk) and `holdings.py` (all of it, for its member).
"""
