"""Ticketing on pages: for who buys, who stands at a gate, and who organises. No script is needed.

Read `words.py` (what is shown), `front.py` (the frame, and who looks),
`live.py` (what follows the store), then the routes: `buying.py`, `holding.py`, `gates.py`,
`staging.py`, `signing.py`. Tickets are mailed by `http/mailing.py`.
"""
