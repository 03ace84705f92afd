"""What is read often, kept beside the log and built from it: rows by key, any of them anew.

`rows.py` (keys, and what reads them), `listing.py` (events), `finding.py` (events by words),
`halls.py` (seats by section, and who has which), `sales.py` (reservations, payments, tickets, and
what was sold to whom).
"""
