"""What a person writes, checked where it is made, and the words it is written in.

Read `specs.py` (a child, the flags, a plan), then `arguments.py` (what of a declaration is an
option, what an argument of the class), `errors.py` (all that can be refused) and `words.py` (the
smallest nouns, and what the calls of administration answer).
"""
