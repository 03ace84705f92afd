"""Several real processes that are one site, and everything between them that can be cut (CLU-42).

Read `kit.py` first: `Nodes`, what a test holds. `balancer.py` is what stands before them,
`lines.py` the lines to the database and to the servers of messages.
"""

from tests.nodes.kit import Nodes, Setup, missing, settled, until

__all__ = ["Nodes", "Setup", "missing", "settled", "until"]
