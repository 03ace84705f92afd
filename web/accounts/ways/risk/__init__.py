"""The risk of sign-ins, on the web.

Read `desk.py`: where a request comes from, and what is done with an assessment. `places_file.py`
keeps the operator's table of addresses; `allowing.py` and `allow_pages.py` are the link by which
the owner of an account allows one more attempt.
"""
