"""The lab: the running system, visible and safe to break.

Read `views.py` (facts of actors become the tree that is shown, and what to patch when it has
changed; pure), `tree/` (what the running tree says of its actors, and how it is sent), then
`routes.py` (the page, its stream, and what a visitor may do); `sandbox/`, `stage/` (how it is
shown and acted on), `panels/` (the other tabs) and `demos/` (small commands to be followed on the
timeline; the lab shows their panels).
"""
