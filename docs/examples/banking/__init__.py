"""A bank: accounts that decide from their own log, and transfers between them that are whole.

`greenroom example banking` starts it. Read `accounts.py` (what an account takes and refuses, and
what it remembers of a transfer), `transfers.py` (the saga: debit, credit, and how each is taken
back), `ledger.py` (what the page shows, written in the transaction of each event), `bank.py` (the
tree, and who carries a saga's commands out), and `site.py` (the page).
"""
