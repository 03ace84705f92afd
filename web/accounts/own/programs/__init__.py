"""What client programs of a member ask for: their sign-ins, and tokens of their own.

Read `session_api.py`: sign-ins, listed and ended; then `tokens.py`, what is done with API tokens,
and `token_routes.py`, their addresses and the forms on the page of an account.
"""
