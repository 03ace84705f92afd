"""Ticketing: what selling the tickets of an event decides, as pure functions.

Each file is one stream, and needs no other but those before it: `amounts.py` (cents, and what a
ticket costs when), `shows.py` (the event), `sections.py` (its seats), `buyers.py` (what one
customer may hold), `payments.py` (the money, in and back), `codes.py` and `tickets.py` (what lets
somebody in). `story.py` tells a sale with them: `greenroom example ticketing`.
"""
