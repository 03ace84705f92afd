"""The lab: the running system, visible and safe to break.

Read `views.py` (facts about actors become the tree that is shown), then `views_changes.py`
(what to patch when the facts have changed). Both are pure.
"""
