"""What is kept of what people did: `audit.py` are acts, as events and rows; `throttle.py` tries.

The latter says how often something may be tried, and is the port that counts. `factors/` are second
factors, and what is kept of them.
"""
