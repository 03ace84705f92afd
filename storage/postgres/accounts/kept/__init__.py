"""What is kept of tries and of sign-ins, in PostgreSQL: limits, logins with their risk, tokens, and
who was seen in the last second (`lately.py`).
"""
