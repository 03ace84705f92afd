"""What an operator does with people: `members.py` (sessions, tokens, audit, risk), `roles.py`."""
