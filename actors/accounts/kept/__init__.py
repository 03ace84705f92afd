"""What is kept of accounts: what was done with them, and what a member may take away.

`audit.py` are the acts, as events and rows; `holdings.py` is all that is kept under one account,
for its member.
"""
