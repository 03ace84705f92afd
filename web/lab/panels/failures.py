"""The page of the lab about failures (RES-3, RES-12): what the site leaves alone outside, how many
dead letters wait in the store, and which messages of one's own sandbox nobody handled. What changes
in it is sent by `failures_feed.py`.

Rule 1: of the store and of the site's own actors a visitor learns numbers only (LAB-93). Who
        operates is led to where letters are read, and breakers closed, with a fresh proof.
Rule 2: however many look, the store is asked once in two seconds; while it is away that is said.
Rule 3: what a visitor has handled again or gives up is of their own sandbox, counts and is recorded
        like any action of the lab, and is done once however often it is sent (LAB-40).
Rule 4: what is typed stands in no part of the page that is sent anew.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, TypeAlias
from uuid import uuid4

import trio
from quart import Blueprint, Response, request

from actors.accounts import Role
from actors.persistence import DeadLetterCounts, DeadLetters, StoreError
from actors.persistence.beside_log.dead_letters import chain_of
from actors.runtime import Crashed, DeadLetter, Log, System
from supervision import Dependencies
from web.accounts.routes import redirect
from web.lab.sandbox.cast import Numbered
from web.lab.sandbox.recording import Deed
from web.lab.sandbox.sandboxes import NotNow, Sandbox, Sandboxes, Settled
from web.lab.sandbox.words import Place, place_at
from web.lab.stage.actions import DONE, StageServices, settle, take_quota
from web.observability.operating.outside_page import outside_view
from web.routing import paths
from web.routing.decided import CommandKey
from web.routing.errors import InvalidInput, LabClosed, NoSuchThing
from web.routing.forms import FORM
from web.routing.services import Services
from web.server import RequestState, current_request_state, require_media
from web.settings import LabMode
from web.site.pages import PAGE_FAILURES, form_response, shell
from web.views.letters import (
    FailureFacts,
    FailuresPage,
    LettersCount,
    LostLetterView,
    LostList,
    LostView,
)

log = Log("web.lab")

COUNTED_FOR_S: Final = 2.0
# Between two clocks; more is a clock that was set.
_SET_S: Final = 0.5
# LAB-40: the newest. A row is all that an actor lost of one class for one reason: a sandbox's
# thirteen actors and four classes come to more than a person reads.
LOST_SHOWN: Final = 100
# LAB-40: what may be done with what nobody handled, and what is said behind it.
AGAIN, ALL, EDIT, DISCARD, DISCARD_ALL = "again", "all", "edit", "discard", "discard-all"
_ACTIONS: Final = (AGAIN, ALL, EDIT, DISCARD, DISCARD_ALL)
_SAID: Final[Mapping[str, str]] = {
    AGAIN: "It is told again.",
    ALL: "They are told again.",
    EDIT: "It is told again, as you have changed it.",
    DISCARD: "It is given up.",
    DISCARD_ALL: "They are given up.",
    "before": "A duplicate: that was settled before, and nothing is done twice.",
}
_HOW: Final[Mapping[str, str]] = {
    AGAIN: "Told again",
    EDIT: "Told again, changed",
    DISCARD: "Given up",
}
_NUMBER_MAX: Final = 1_000_000
# A line, for whoever gave it up to read.
_REASON_CHARS_MAX: Final = 200
# Of a row those of the newest that have any: what was changed, and why others were given up.
NOTES_SHOWN: Final = 3
# Where it is recorded as settled.
_SETTLED: Final = "letters"

Key: TypeAlias = tuple[Place, str, str]
"""An actor, a reason and a class: what stands in one row."""
LettersByKey: TypeAlias = Mapping[Key, Sequence[DeadLetter]]


class Failures:
    """What the page shows."""

    def __init__(
        self,
        system: Callable[[], System],
        outside: Dependencies,
        sandboxes: Sandboxes,
        letters: DeadLetters | None,
        now: Callable[[], datetime],
    ) -> None:
        """`letters` is None where no store has any."""
        self._system, self._sandboxes = system, sandboxes
        self._outside, self._letters, self._now = outside, letters, now
        self._lock = trio.Lock()
        self._counted: tuple[float, LettersCount | None] | None = None
        # The date at which trio's clock began.
        self._zero = now() - timedelta(seconds=trio.current_time())

    async def facts(self) -> FailureFacts:
        """Call this for what all see."""
        letters = await self.letters()
        return FailureFacts(tuple(map(outside_view, self._outside.stats())), letters)

    async def letters(self) -> LettersCount | None:
        """Call this for how many there are in the store; None while nobody knows."""
        async with self._lock:
            now = trio.current_time()
            if self._counted is None or now - self._counted[0] >= COUNTED_FOR_S:
                self._counted = now, await self._count()
            return self._counted[1]

    async def _count(self) -> LettersCount | None:
        if self._letters is None:
            return None
        try:
            return _count_of(await self._letters.counts())
        except StoreError as error:
            log.info("lab.no_letters", error=type(error).__name__)
            return None

    def lost(self, sandbox: Sandbox) -> LostList:
        """Call this for what nobody handled in a sandbox: by actor, reason and class, newest first.

        The ring of the system holds the newest thousand of all actors.
        """
        return self.rows_of(sandbox, self.letters_in(sandbox))

    def rows_of(self, sandbox: Sandbox, letters: LettersByKey) -> LostList:
        """Call this for the same of letters that were found."""
        newest = sorted(letters.items(), key=lambda item: -item[1][-1].id)[:LOST_SHOWN]
        # In the order they came first: one that comes again moves no row under somebody's finger.
        newest.sort(key=lambda item: -item[1][0].id)
        return LostList(
            tuple(
                _lost_view(place, found, sandbox.settled, self.time_of(found[-1].at))
                for (place, _, _), found in newest
            )
        )

    def letters_in(self, sandbox: Sandbox) -> LettersByKey:
        """Call this for what nobody handled in a sandbox, by actor, reason and class."""
        return self.letters_of([sandbox]).get(sandbox.record, {})

    def letters_of(self, sandboxes: Collection[Sandbox]) -> Mapping[str, LettersByKey]:
        """Call this for that of several, by their records: the ring is gone through once."""
        roots = {one.root: one.record for one in sandboxes if one.is_own and one.root is not None}
        found: dict[str, dict[Key, list[DeadLetter]]] = {one: {} for one in roots.values()}
        if not roots:
            return found
        for letter in self._system().dead_letters:
            sandbox = self._sandboxes.above(letter.path)
            root = None if sandbox is None else sandbox.root
            if root is None or root not in roots:
                continue
            place = place_at(root, letter.path)
            if place is not None:
                key = (place, letter.reason, letter.message_type)
                found[roots[root]].setdefault(key, []).append(letter)
        return found

    @property
    def lost_count(self) -> int:
        """How many messages nobody has handled, of any actor: it has grown when there are more."""
        return self._system().dead_letters.total

    def time_of(self, at: float) -> datetime:
        """Call this for the date of a time of trio's; the same each time."""
        zero = self._now() - timedelta(seconds=trio.current_time())
        if abs((zero - self._zero).total_seconds()) > _SET_S:
            self._zero = zero
        return self._zero + timedelta(seconds=at)

    def look_into(self, sandbox: Sandbox, id_: str, typed: Mapping[str, str]) -> LostLetterView:
        """Call this for one of them; what was `typed` stands there again.

        Raises `NoSuchThing` for one that is not there.
        """
        place, letter, alike = _found(self.letters_in(sandbox), id_)
        root, settled = sandbox.root or "", sandbox.settled.get(letter.id)
        text_id, caused = self._system().text_id, letter.causation_id
        facts = {
            "Actor": place,
            "Life": str(letter.incarnation),
            "Why": letter.reason,
            "Message": letter.message,
            "Message id": text_id(letter.message_id),
            "Correlation id": letter.correlation_id,
            "Caused by": text_id(caused) if isinstance(caused, int) else caused or "",
            # Of who is not of the sandbox nothing is told but that (rule 1).
            "Sender": "" if letter.sender is None else place_at(root, letter.sender) or "outside",
            "Asked": "yes, who asked is gone" if letter.was_ask else "no",
        }
        number = typed.get("number", _number_in(letter))
        return LostLetterView(
            letter.id,
            tuple((name, text) for name, text in facts.items() if text),
            self.time_of(letter.at),
            _chain(letter),
            "" if settled is None else _HOW[settled.how],
            "" if settled is None else settled.note,
            len(_waiting(sandbox.settled, alike)),
            number if letter.message_type == Numbered.__name__ else None,
            typed.get("reason", ""),
        )


def failure_routes(services: Services, failures: Failures, stage: StageServices) -> Blueprint:
    """Call this to get the routes."""
    routes = Blueprint("failures", __name__)

    async def shown(
        id_: str, problem: str = "", typed: Mapping[str, str] | None = None, status: int = 200
    ) -> Response:
        state = current_request_state()
        sandbox = stage.sandboxes.of(state.visitor.id)
        facts = await failures.facts()
        page = FailuresPage(
            shell(services, state, "Failures", PAGE_FAILURES, str(uuid4())),
            facts,
            failures.lost(sandbox),
            failures.look_into(sandbox, id_, typed or {}) if id_ else None,
            _is_operator(state),
            services.csrf_of(state),
            _SAID.get(request.args.get("said", ""), ""),
            problem,
        )
        return form_response(services.renderer.failures_page(page), status)

    @routes.get(paths.LAB_FAILURES)
    async def look() -> Response:
        return await shown(request.args.get("letter", ""))

    @routes.post(paths.LAB_FAILURES)
    async def decide() -> Response:
        require_media(FORM)
        typed = await request.form
        wanted = _wanted(typed)
        try:
            said = _decide(failures, stage, current_request_state(), wanted, typed)
        except _Refused as error:
            return await shown(wanted.letter, str(error), typed, error.status)
        return redirect(f"{paths.LAB_FAILURES}?said={said}")

    return routes


class _Refused(Exception):
    """Raised for what cannot be done so, or not now; in words for who wanted it."""

    def __init__(self, words: str, status: int = 400) -> None:
        super().__init__(words)
        self.status = status


@dataclass(frozen=True, slots=True)
class _Wanted:
    action: str
    letter: str


def _wanted(typed: Mapping[str, str]) -> _Wanted:
    """The button that was pressed: its name is what is wanted, its value of which letter."""
    found = [_Wanted(name, typed[name]) for name in _ACTIONS if name in typed]
    if len(found) != 1:
        raise InvalidInput("one of again, all, edit, discard and discard-all names a letter")
    return found[0]


def _decide(
    failures: Failures,
    stage: StageServices,
    state: RequestState,
    wanted: _Wanted,
    typed: Mapping[str, str],
) -> str:
    """Do what a visitor wants done with what nobody handled; what is said of it.

    Nothing waits in here, so two of one letter are one.
    """
    if stage.switch.mode is not LabMode.PUBLIC:
        raise LabClosed(stage.switch.mode)
    action = wanted.action
    sandbox = stage.sandboxes.of(state.visitor.id)
    letters = failures.letters_in(sandbox)
    place, letter, alike = _found(letters, wanted.letter)
    instead = _edited(letter, typed.get("number", "")) if action == EDIT else None
    why = _reason(typed.get("reason", ""))
    sandbox.settlings += 1
    before = sandbox.settled.get(letter.id)
    waiting = _waiting(sandbox.settled, alike if action in (ALL, DISCARD_ALL) else [letter])
    if not waiting:
        if before is not None:
            before.duplicates += 1
        return "before"
    is_told = action not in (DISCARD, DISCARD_ALL)
    how = DISCARD if not is_told else EDIT if action == EDIT else AGAIN
    note = why if instead is None else f"{letter.message} → {instead}"
    try:
        if is_told:
            stage.sandboxes.check(sandbox, place, "flood", len(waiting))
        deed = Deed(f"letters {action}", place, len(waiting))
        take_quota(stage, state, sandbox, deed)
        for one in waiting:
            if is_told:
                stage.sandboxes.handle_again(sandbox, place, one.id, instead)
            sandbox.settled[one.id] = Settled(how, note)
    except (NotNow, KeyError):
        raise _Refused(f"{place} cannot take it now; try again in a moment.", 409) from None
    # What is kept no more need not be remembered.
    kept = {one.id for found in letters.values() for one in found}
    for gone in sandbox.settled.keys() - kept:
        del sandbox.settled[gone]
    key = CommandKey(state.visitor.id, _SETTLED, f"{action} {waiting[-1].id}")
    settle(stage, state, key, sandbox, deed, DONE)
    return action


def _waiting(settled: Mapping[int, Settled], letters: Sequence[DeadLetter]) -> Sequence[DeadLetter]:
    return [one for one in letters if one.id not in settled]


def _found(letters: LettersByKey, id_: str) -> tuple[Place, DeadLetter, Sequence[DeadLetter]]:
    """Where a letter of the sandbox was lost, itself, and those like it; another's is none."""
    for (place, _, _), alike in letters.items():
        for letter in alike:
            if str(letter.id) == id_:
                return place, letter, alike
    raise NoSuchThing("no such message of this sandbox")


def _edited(letter: DeadLetter, number: str) -> Numbered:
    """The message as it was changed; of the lab's only this one has anything in it."""
    if letter.message_type != Numbered.__name__:
        raise _Refused(f"A {letter.message_type} has nothing to change.")
    is_number = number.isascii() and number.isdigit() and len(number) <= len(str(_NUMBER_MAX))
    if not (is_number and 1 <= int(number) <= _NUMBER_MAX):
        raise _Refused(f"Number is a whole number from 1 to {_NUMBER_MAX}.")
    return Numbered(int(number))


def _number_in(letter: DeadLetter) -> str:
    """What stands in it, as it is shown."""
    return "".join(filter(str.isdigit, letter.message))


def _reason(typed: str) -> str:
    why = typed.strip()
    if len(why) > _REASON_CHARS_MAX or not why.isprintable():
        raise _Refused(f"A reason is one line of at most {_REASON_CHARS_MAX} characters.")
    return why


def _is_operator(state: RequestState) -> bool:
    return state.signed_in is not None and state.signed_in.role == Role.ADMIN.value


def _count_of(counts: DeadLetterCounts) -> LettersCount:
    by_status = tuple((status.value, number) for status, number in counts.by_status.items())
    return LettersCount(by_status, round(100 * counts.fullness), counts.health)


def _chain(letter: DeadLetter) -> tuple[str, ...]:
    exit_ = letter.exit
    return tuple(chain_of(exit_.error).splitlines()) if isinstance(exit_, Crashed) else ()


def _lost_view(
    place: Place,
    letters: Sequence[DeadLetter],
    all_settled: Mapping[int, Settled],
    at: datetime,
) -> LostView:
    last, waiting = letters[-1], _waiting(all_settled, letters)
    settled = [all_settled[one.id] for one in letters if one.id in all_settled]
    given_up = sum(one.how == DISCARD for one in settled)
    return LostView(
        place,
        last.reason,
        last.message_type,
        last.message,
        len(letters),
        at,
        _chain(last),
        (waiting or letters)[-1].id,
        len(waiting),
        len(settled) - given_up,
        given_up,
        sum(one.duplicates for one in settled),
        tuple(dict.fromkeys(one.note for one in reversed(settled) if one.note))[:NOTES_SHOWN],
    )
