"""What stands beside the log: written in the transaction of an append, or instead of one.

Read `dead_letters.py` (what could not be handled), then `outbox.py` (what leaves after the
commit and what arrived, with the actor that sends it), `mails.py` (what became of the mails
among it), `timers.py` (durable timers, with the
actor that delivers them), `idempotency.py` (one request, one effect) and `cleaning.py` (the
actor that removes what was kept long enough). Each but the last holds a port and the numbers
its adapters share.
"""
