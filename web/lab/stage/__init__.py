"""The stage: a visitor's sandbox as it is seen, and what they may do to it.

Read `picture.py` (the running actors become view models), `feed.py` (what changed is sent to who
looks), then `actions.py` (the commands, their order of refusals), `api.py` (the same as JSON) and
`topic.py` (told on `/ws`).
"""
