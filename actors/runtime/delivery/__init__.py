"""From a ref into a mailbox, and whose turn it is.

Read `ref.py` first (tell, send, ask, stop, kill), then what a message passes through:
`envelope.py` (its papers, the slot of its reply), `batch.py` (several that are handled together),
`mailbox.py` (two lanes), `overflow.py` (what a
full one does), `dispatcher.py` (turns of actors without a task), `clock.py` (deadlines and alarms).
"""
