"""Dead letters for people: what is shown of them, and how they are tried again or given up.

Read `handing.py`: one letter, handed back, edited or given up; `retrying.py`: many of them, at a
pace that nobody suffers from; then `page.py`: the pages of operators.
"""
