"""The lab: the running system, visible and safe to break.

Read `tree_picture.py` (what the running tree says of its actors), `views.py` (those facts become
the tree that is shown, and what to patch when it has changed; pure), `tree_feed.py` (it is sent),
then `routes.py` (the page, its stream, and what a visitor may do); `sandbox/`, `stage/` (how it is
shown and acted on) and `panels/` (the other tabs).
"""
