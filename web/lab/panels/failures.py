"""The page of the lab about failures (RES-3, RES-12): what the site leaves alone outside, how many
dead letters wait in the store, and which messages of one's own sandbox nobody handled.

Rule 1: of the store and of the site's own actors a visitor learns numbers only (LAB-93). Who
        operates is led to where letters are read, and breakers closed, with a fresh proof.
Rule 2: however many look, the store is asked once in two seconds; while it is away that is said.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import trio
from quart import Blueprint, Response

from actors.accounts import Role
from actors.persistence import DeadLetterCounts, DeadLetters, StoreError
from actors.persistence.beside_log.dead_letters import chain_of
from actors.runtime import Crashed, DeadLetter, Log, System
from supervision import Dependencies
from web.lab.sandbox.sandboxes import Sandbox, Sandboxes
from web.lab.sandbox.words import place_at
from web.observability.operating.outside_page import outside_view
from web.routing import paths
from web.routing.services import Services
from web.server import RequestState, current_request_state
from web.site.pages import PAGE_LAB, form_response, shell
from web.views.letters import FailuresPage, LettersCount, LostView

log = Log("web.lab")

COUNTED_FOR_S: Final = 2.0
# More kinds of failures of one sandbox than a person reads.
LOST_SHOWN: Final = 30


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
        root = sandbox.root if sandbox.is_own else None
        if root is None:
            return ()
        now, found = trio.current_time(), dict[tuple[str, str, str], list[DeadLetter]]()
        for letter in self._system().dead_letters:
            place = place_at(root, letter.path)
            if place is not None:
                found.setdefault((place, letter.reason, letter.message_type), []).append(letter)
        newest = sorted(found.items(), key=lambda item: -item[1][-1].id)[:LOST_SHOWN]
        return tuple(_lost_view(place, letters, now) for (place, _, _), letters in newest)


def failure_routes(services: Services, failures: Failures, sandboxes: Sandboxes) -> Blueprint:
    """Call this to get the route."""
    routes = Blueprint("failures", __name__)

    @routes.get(paths.LAB_FAILURES)
    async def look() -> Response:
        state = current_request_state()
        page = FailuresPage(
            shell(services, state, "Failures", PAGE_LAB),
            tuple(map(outside_view, failures.outside.stats())),
            await failures.letters(),
            failures.lost(sandboxes.of(state.visitor.id)),
            _is_operator(state),
        )
        return form_response(services.renderer.failures_page(page))

    return routes


def _is_operator(state: RequestState) -> bool:
    return state.signed_in is not None and state.signed_in.role == Role.ADMIN.value


def _count_of(counts: DeadLetterCounts) -> LettersCount:
    by_status = tuple((status.value, number) for status, number in counts.by_status.items())
    return LettersCount(by_status, round(100 * counts.fullness), counts.health)


def _lost_view(place: str, letters: Sequence[DeadLetter], now: float) -> LostView:
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
    )
