"""What a saga decides, purely: `decisions` (what follows from what), `aggregate` (its log, and
what goes into the append of its events).
"""
