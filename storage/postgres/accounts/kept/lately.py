"""What the store has said of sign-ins within the last second, for pages that only show a name.

Rule 1: what is kept was asked for at most `LATELY_S` ago, counted from before the question.
Rule 2: a ring empties it. This process counts its own commits before their callers are told, so
        that whoever ended something here is never shown it again; others ring within a moment,
        and what no ring tells is over with rule 1 (SEC-44).
Rule 3: an answer that a ring overtook is not kept: it may be of before what was committed.
Rule 4: that nobody is signed in is never kept, nor who has a role: what a role shows is for those
        who have it at that moment.
"""

from actors.accounts.members import Member, Role

# SEC-44: an end reaches every process within it.
LATELY_S = 1.0
# Members who load a page in the same second; of one that was left out the store is asked.
KEPT_MAX = 10_000


class Lately:
    """Members by the digest of their token, the one that was asked for first in front."""

    def __init__(self) -> None:
        self._kept: dict[bytes, tuple[float, Member]] = {}
        self._rung = 0

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, digest: bytes, now: float, rung: int) -> Member | None:
        """Call this with the rings counted so far; None when the store must be asked."""
        if rung != self._rung:
            self._kept.clear()
            self._rung = rung
        asked_at, member = self._kept.get(digest, (now, None))
        return None if now - asked_at >= LATELY_S else member

    def keep(self, digest: bytes, member: Member, asked_at: float, rung: int) -> None:
        """Call this with an answer, and what was the time and the count when it was asked for."""
        if rung != self._rung or member.role is not Role.USER:
            return
        self._kept.pop(digest, None)
        while self._kept:
            first = next(iter(self._kept))
            if len(self._kept) < KEPT_MAX and asked_at - self._kept[first][0] < LATELY_S:
                break
            del self._kept[first]
        self._kept[digest] = (asked_at, member)
