"""One dead letter in somebody's hand: to where it goes back, and how it is edited.

For pages and commands alike. Each change is one transaction of the store, with who made it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from actors.persistence import (
    DeadLetters,
    GenerationState,
    LetterChanged,
    NotEdited,
    NotHandedBack,
    ProjectionStore,
    StoredDeadLetter,
    StoreMisuse,
)
from actors.persistence.beside_log.dead_letters import (
    NEVER_CHANGES,
    NOT_KEPT,
    PROJECTION,
    TRANSITIONS,
    speaks_of,
)
from actors.persistence.beside_log.editing import Edit, edited_payload
from actors.persistence.bus import Engine, check_whole, put_back

BUS: Final = "bus"
_COLLECTION = re.compile(r"(.+)__g(\d+)")


def mark_of_payload(payload: bytes | None) -> str:
    """Call this for what an edit says it was made of: two who edit at once are told apart by it."""
    return "" if payload is None else sha256(payload).hexdigest()


class OnlyEdited(StoreMisuse):
    """Raised for a dead letter that was edited, and could not be handed back then.

    The edit is kept: whoever may try it again finds what was written.
    """

    code = "only_edited"

    def __init__(self, id_: int, why: str) -> None:
        super().__init__(
            f"the edit of dead letter {id_} is kept, but it was not handed back: {why}"
        )
        self.id, self.why = id_, why


@dataclass(frozen=True, slots=True)
class LetterDesk:
    """The letters of a store, and what they go back to; without a `bus` records stay here."""

    letters: DeadLetters
    projections: ProjectionStore
    bus: Engine | None = None

    def is_served(self, stored: StoredDeadLetter) -> bool:
        """Call this for whether one of its kind can be handed back here at all."""
        letter = stored.letter
        if letter.kind in (PROJECTION, BUS):
            return letter.kind == PROJECTION or self.bus is not None
        return speaks_of(letter.kind, letter.source, letter.message_key) is not None

    async def hand_back(self, id_: int, by: str) -> StoredDeadLetter:
        """Call this to have one tried again: a record on its topic, all else where it failed.

        Raises `NotHandedBack` for what nobody would try again, `InvalidTransition` for one that is
        settled or in hand, `UnknownDeadLetter`.
        """
        stored = await self.letters.get(id_)
        await self.check_served(stored)
        if stored.letter.kind != BUS:
            return await self.letters.hand_back(id_, by)
        if self.bus is None:
            raise NotHandedBack(id_, "this program has no bus")
        return await put_back(self.bus, id_, by)

    async def edit(self, id_: int, text: str, mark: str, by: str) -> Edit:
        """Call this with what a person made of a payload that had `mark`; then hand it back.

        Raises as `DeadLetters.edit`, and `BadEdit` for what cannot be taken as it was written.
        """
        stored = await self.letters.get(id_)
        letter = stored.letter
        # Told before what was written is judged: neither can be helped by writing better.
        if letter.kind == PROJECTION or letter.event_id is not None:
            raise NotEdited(id_, NEVER_CHANGES)
        if letter.payload is None:
            raise NotEdited(id_, NOT_KEPT)
        if mark_of_payload(letter.payload) != mark:
            raise LetterChanged(id_)
        edit = edited_payload(letter.payload, text)
        await self.letters.edit(
            id_, seen=letter.payload, payload=edit.payload, by=by, notes=edit.notes
        )
        return edit

    async def edit_and_hand_back(
        self, id_: int, text: str, mark: str, by: str
    ) -> tuple[Edit, StoredDeadLetter]:
        """Call this for both; raises as each, and `OnlyEdited` when the second was refused.

        What is known before to be handed back by nobody, half a record, is not edited either.
        """
        await self.check_served(await self.letters.get(id_))
        edit = await self.edit(id_, text, mark, by)
        try:
            return edit, await self.hand_back(id_, by)
        except StoreMisuse as error:
            why = error.why if isinstance(error, NotHandedBack) else str(error)
            raise OnlyEdited(id_, why) from error

    async def check_served(self, stored: StoredDeadLetter) -> None:
        """Call this first: `NotHandedBack` for a generation that serves nobody, half a record."""
        if not TRANSITIONS[stored.status]:
            return  # what is settled is told by who hands it back
        if stored.letter.kind == BUS:
            check_whole(stored)
        named = _COLLECTION.fullmatch(stored.letter.source)
        if stored.letter.kind != PROJECTION or named is None:
            return
        known = await self.projections.checkpoints(named[1])
        states = {one.state for one in known if one.generation == int(named[2])}
        if GenerationState.BUILDING in states:
            why = "is being built; ask again when it serves"
        elif GenerationState.RETIRED in states:
            why = "was retired; swap back to it first. It goes when the generation is removed"
        elif not states:
            why = "is kept no more; discard it"
        else:
            return
        raise NotHandedBack(stored.id, f"{stored.letter.source} {why}")
