"""How one node talks to the others: frames out, frames in, and who of them is there.

Read `words.py` (bounds, sizes, how asks end), `speaking.py` (frames out), `hearing.py` (frames in),
then `talk.py`, which is both for one process.
"""

from actors.cluster.reaching.talking.talk import Talk
from actors.cluster.reaching.talking.words import SILENT_S_MAX, TICK_S, Loose, left_ms_of

__all__ = ["SILENT_S_MAX", "TICK_S", "Loose", "Talk", "left_ms_of"]
