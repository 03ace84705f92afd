"""Cases: what is given, what happens, what has to come of it, told as a short story.

- `fixed.py`  clock, ids and chance that a test sets
- `sagas.py`  a saga that is begun, answered, left alone, and crashed wherever one likes
"""
