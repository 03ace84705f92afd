"""What is read often, kept beside the log and built from it: rows by key, any of them anew.

`rows.py` (keys, and what reads them), `listing.py` (events), `finding.py` (events by words),
`halls.py` (seats by section, and who has which), `sales.py` (reservations, payments, tickets) and
`ledger.py` (what was sold to whom). Pages and API read the same rows. What is built at once is one
projection, so that its sums agree: `ticketing_events` has `events`; `ticketing_seats` has
`available_seats` and `seat_assignments`; `ticketing_sales` has `reservations`, `payments`,
`tickets`, `sales_analytics`, `sales_by_section` and `customer_history`.
`greenroom projection rebuild NAME` builds one anew while sales go on.
"""
