"""Ticketing: seats of an event are held while somebody pays, sold once, and given back whole.

The decisions, each file one stream that needs no other but those before it: `amounts.py` (cents,
and what a ticket costs when), `shows.py` (the event), `sections.py` (its seats), `buyers.py` (what
one customer may hold), `payments.py` (the money, in and back), `codes.py` and `tickets.py` (what
lets somebody in); `story.py` tells a sale with them alone. Then what is done: `reservations.py`
(the saga), `gateway.py` (who moves the money), `office.py` (the tree), and `sale.py`, a sale in
memory. `http/` serves the office to programs, `pages/` to people, and `site.py` both:
`greenroom example ticketing`.
"""
