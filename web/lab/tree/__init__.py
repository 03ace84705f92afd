"""The running tree as the lab shows it.

Read `picture.py` (what the running tree says of its actors), then `feed.py` (it is sent while it
is seen); `web/lab/views.py` makes the view models of both.
"""
