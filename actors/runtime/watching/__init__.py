"""What can be seen of running actors. Nothing here is needed to run them.

Asked: `stats.py` (figures), `inspection.py` (state, standing still; `copying.py` makes the copies).
Told as it happens:
`changes.py`, `reports.py` (crashes), `dead_letters.py`, `watchdog.py` (a loop that does not turn).
`presenting.py` makes state and messages fit to be shown, `traces.py` stacks; the others use them.
"""
