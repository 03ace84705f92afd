"""The site around the panels: home, streams of pages, static files.

Read `routes.py`, then `events.py` (the stream of every page, whoever fills it), `pages.py` (what
every page has), `error_pages.py` (what stands where there is none), `proof_feed.py` (the live
figures on the home page) and `measured.py` (the others), `tickets.py` (for sockets of programs
without a cookie) and `policy_reports.py` (what browsers tell of pages that broke their policy).
"""
