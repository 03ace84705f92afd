"""A member's own account: `account.py` is its page and forms, `managing.py` what these do.

`exporting.py` writes down for its member what is kept of them. `second_factors.py` adds and removes
those, for the forms of `factor_routes.py`.
"""
