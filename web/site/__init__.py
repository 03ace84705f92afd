"""The site around the panels: home, streams of pages, static files, health.

Read `routes.py`, then `events.py` (what a page's stream is sent), `pages.py` (the frame of
every page), `health.py` and `proof_feed.py` (the figures on the home page).
"""
