"""Cases: what is given, what happens, what has to come of it, told as a short story.

- `fixed.py`       clock, ids and chance that a test sets
- `telling.py`     cases of an aggregate and of a reducer; `differing.py` says what differs
- `step_store.py`  a reducer step by step, its feedback in the order that the test chooses
- `sagas.py`       a saga that is begun, answered, left alone, and crashed wherever one likes
- `participants.py` who a saga's commands go to, such as a payment gateway, played
- `projections.py` events, and the rows that they make, also delivered twice and shuffled
"""
