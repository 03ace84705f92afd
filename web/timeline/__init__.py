"""The timeline on pages: what a visitor's own requests have caused, live, and for operators.

Read `collector.py` (who tells the timeline of what), `feed.py` (how open pages are sent it, at most
ten times a second), `presenting.py` (words become views), `routes.py` (the filter, and the page of
an operator). What is kept, and what of it may be seen, is in `actors.timeline`.
"""
