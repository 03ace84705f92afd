"""What a member is told of by mail and can undo there: "this was not me", and a changed address.

Read `disavowing.py`, then `addresses.py`.
"""
