"""The page of the lab about failures (RES-3, RES-12): what the site leaves alone outside, how many
dead letters wait in the store, and which messages of one's own sandbox nobody handled.

Rule 1: of the store and of the site's own actors a visitor learns numbers only (LAB-93). Who
        operates is led to where letters are read, and breakers closed, with a fresh proof.
Rule 2: however many look, the store is asked once in two seconds; while it is away that is said.
Rule 3: what a visitor has handled again or gives up is of their own sandbox, counts and is recorded
        like any action of the lab, and is done once however often it is sent (LAB-40).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

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
from web.lab.sandbox.sandboxes import NotNow, Sandbox, Sandboxes
from web.lab.sandbox.words import Place, place_at
from web.lab.stage.actions import DONE, StageServices, settle, take_quota
from web.observability.operating.outside_page import outside_view
from web.routing import paths
from web.routing.decided import CommandKey
from web.routing.errors import InvalidInput, LabClosed, NoSuchThing, NotPossible
from web.routing.forms import FORM
from web.routing.services import Services
from web.server import RequestState, current_request_state, require_media
from web.settings import LabMode
from web.site.pages import PAGE_LAB, form_response, shell
from web.views.letters import FailuresPage, LettersCount, LostView

log = Log("web.lab")

COUNTED_FOR_S: Final = 2.0
# LAB-40: the newest. A row is all that an actor lost of one class for one reason: a sandbox's
# thirteen actors and four classes come to more than a person reads.
LOST_SHOWN: Final = 100
# LAB-40: what may be done with what nobody handled, and what is said behind it.
AGAIN, ALL, EDIT, DISCARD = "again", "all", "edit", "discard"
_SAID: Final[Mapping[str, str]] = {
    AGAIN: "It is told again.",
    ALL: "They are told again.",
    EDIT: "It is told again, as you have changed it.",
    DISCARD: "They are given up.",
    "before": "That was settled before; nothing is done twice.",
}
_NUMBER_MAX: Final = 1_000_000
# Where it is recorded as settled.
_SETTLED: Final = "letters"


class Failures:
    """What the page shows; `letters` is None where no store has any."""

    def __init__(
        self,
        system: Callable[[], System],
        outside: Dependencies,
        sandboxes: Sandboxes,
        letters: DeadLetters | None,
    ) -> None:
        self._system, self._sandboxes = system, sandboxes
        self.outside, self._letters = outside, letters
        self._lock = trio.Lock()
        self._counted: tuple[float, LettersCount | None] | None = None

    async def letters(self) -> LettersCount | None:
        """Call this for how many there are; None while nobody knows."""
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

    def lost(self, sandbox: Sandbox) -> tuple[LostView, ...]:
        """Call this for what nobody handled in a sandbox: by actor, reason and class, newest first.

        The ring of the system holds the newest thousand of all actors.
        """
        now = trio.current_time()
        newest = sorted(self.letters_in(sandbox).items(), key=lambda item: -item[1][-1].id)
        return tuple(
            _lost_view(place, letters, _waiting(sandbox, letters), now)
            for (place, _, _), letters in newest[:LOST_SHOWN]
        )

    def letters_in(self, sandbox: Sandbox) -> dict[tuple[Place, str, str], list[DeadLetter]]:
        """Call this for what nobody handled in a sandbox, by actor, reason and class."""
        root = sandbox.root if sandbox.is_own else None
        found = dict[tuple[Place, str, str], list[DeadLetter]]()
        if root is None:
            return found
        for letter in self._system().dead_letters:
            place = place_at(root, letter.path)
            if place is not None:
                found.setdefault((place, letter.reason, letter.message_type), []).append(letter)
        return found


def failure_routes(services: Services, failures: Failures, stage: StageServices) -> Blueprint:
    """Call this to get the routes."""
    routes = Blueprint("failures", __name__)

    async def shown(problem: str = "") -> Response:
        state = current_request_state()
        page = FailuresPage(
            shell(services, state, "Failures", PAGE_LAB),
            tuple(map(outside_view, failures.outside.stats())),
            await failures.letters(),
            failures.lost(stage.sandboxes.of(state.visitor.id)),
            _is_operator(state),
            services.csrf_of(state),
            _SAID.get(request.args.get("said", ""), ""),
            problem,
        )
        return form_response(services.renderer.failures_page(page), 400 if problem else 200)

    @routes.get(paths.LAB_FAILURES)
    async def look() -> Response:
        return await shown()

    @routes.post(paths.LAB_FAILURES)
    async def decide() -> Response:
        require_media(FORM)
        try:
            said = _decide(failures, stage, current_request_state(), await request.form)
        except _BadChange as error:
            return await shown(str(error))
        return redirect(f"{paths.LAB_FAILURES}?said={said}")

    return routes


class _BadChange(Exception):
    """Raised for a message that cannot be changed so; in words for who typed it."""


def _decide(
    failures: Failures, stage: StageServices, state: RequestState, typed: Mapping[str, str]
) -> str:
    """Do what a visitor wants done with what nobody handled; what is said of it.

    Nothing waits in here, so two of one letter are one.
    """
    if stage.switch.mode is not LabMode.PUBLIC:
        raise LabClosed(stage.switch.mode)
    action = typed.get("action", "")
    if action not in _SAID or action == "before":
        raise InvalidInput("action is again, all, edit or discard")
    sandbox = stage.sandboxes.of(state.visitor.id)
    letters = failures.letters_in(sandbox)
    place, letter, alike = _found(letters, typed.get("letter", ""))
    instead = _edited(letter, typed.get("number", "")) if action == EDIT else None
    waiting = _waiting(sandbox, alike if action in (ALL, DISCARD) else [letter])
    if not waiting:
        return "before"
    try:
        if action != DISCARD:
            stage.sandboxes.check(sandbox, place, "flood", len(waiting))
        deed = Deed(f"letters {action}", place, len(waiting))
        take_quota(stage, state, sandbox, deed)
        for one in waiting:
            if action != DISCARD:
                stage.sandboxes.handle_again(sandbox, place, one.id, instead)
            sandbox.settled.add(one.id)
    except (NotNow, KeyError):
        raise NotPossible(place) from None
    # What is kept no more need not be remembered.
    sandbox.settled &= {one.id for found in letters.values() for one in found}
    key = CommandKey(state.visitor.id, _SETTLED, f"{action} {waiting[-1].id}")
    settle(stage, state, key, sandbox, deed, DONE)
    return action


def _waiting(sandbox: Sandbox, letters: Sequence[DeadLetter]) -> list[DeadLetter]:
    return [one for one in letters if one.id not in sandbox.settled]


def _found(
    letters: Mapping[tuple[Place, str, str], list[DeadLetter]], id_: str
) -> tuple[Place, DeadLetter, list[DeadLetter]]:
    """Where a letter of the sandbox was lost, itself, and those like it; another's is none."""
    for (place, _, _), alike in letters.items():
        for letter in alike:
            if str(letter.id) == id_:
                return place, letter, alike
    raise NoSuchThing("no such message of this sandbox")


def _edited(letter: DeadLetter, number: str) -> Numbered:
    """The message as it was changed; of the lab's only this one has anything in it."""
    if letter.message_type != Numbered.__name__:
        raise _BadChange(f"A {letter.message_type} has nothing to change.")
    is_number = number.isascii() and number.isdigit() and len(number) <= len(str(_NUMBER_MAX))
    if not (is_number and 1 <= int(number) <= _NUMBER_MAX):
        raise _BadChange(f"Number is a whole number from 1 to {_NUMBER_MAX}.")
    return Numbered(int(number))


def _is_operator(state: RequestState) -> bool:
    return state.signed_in is not None and state.signed_in.role == Role.ADMIN.value


def _count_of(counts: DeadLetterCounts) -> LettersCount:
    by_status = tuple((status.value, number) for status, number in counts.by_status.items())
    return LettersCount(by_status, round(100 * counts.fullness), counts.health)


def _lost_view(
    place: str, letters: Sequence[DeadLetter], waiting: Sequence[DeadLetter], now: float
) -> LostView:
    last = letters[-1]
    chain = chain_of(last.exit.error) if isinstance(last.exit, Crashed) else ""
    return LostView(
        place,
        last.reason,
        last.message_type,
        last.message,
        len(letters),
        max(0, round(now - last.at)),
        tuple(chain.splitlines()),
        waiting[-1].id if waiting else 0,
        len(waiting),
        last.message_type == Numbered.__name__,
    )
