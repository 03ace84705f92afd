"""Passkeys on the site and for client programs.

Read `passkeys.py` (what each act does, whatever it comes from), `verifying.py` (whose signature it
is), then `passkey_pages.py` and `passkey_api.py`: the forms, and the routes of programs.
"""
