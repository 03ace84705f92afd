"""A member's own account: `account.py` is its page and forms, `managing.py` what these do.

`exporting.py` writes down for its member what is kept of them.
"""
