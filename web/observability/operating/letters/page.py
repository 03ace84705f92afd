"""The pages of operators about dead letters: found, looked at, handed back, edited, given up.

Rule 1: who may come here is declared in `web.accounts.roles.access`: the role, and a fresh proof.
Rule 2: of a payload, of headers and of errors is shown what `editing` lets a person see.
Rule 3: whatever is refused is told on the page it came from, with what was typed still there.
"""

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlencode

from quart import Blueprint, Response, request

from actors.persistence import (
    DeadLetterStatus,
    LetterChange,
    StoredDeadLetter,
    StoreMisuse,
    UnknownDeadLetter,
)
from actors.persistence.beside_log.dead_letters import EDITED, KINDS
from actors.persistence.beside_log.editing import (
    BadEdit,
    shown_payload,
    shown_text,
    shown_texts,
)
from actors.persistence.words import BIGINT_MAX, KEY_BYTES_MAX
from web.accounts.routes import redirect, typed_by_member
from web.observability.operating.letters.handing import LetterDesk, mark_of_payload
from web.observability.operating.letters.retrying import Progress, Retries
from web.routing import paths
from web.routing.errors import InvalidInput, NoSuchThing
from web.routing.services import Services
from web.server import current_request_state
from web.site.pages import PAGE_OPERATORS, form_response, shell
from web.views import LocalPath, local_path
from web.views.letters import LetterChangeView, LetterPage, LetterRow, LettersPage, RunView

# What a person looks through at a time; a payload comes with each.
LETTERS_SHOWN: Final = 50
CHANGES_SHOWN: Final = 50
ERROR_SHOWN_CHARS: Final = 200
REASON_CHARS_MAX: Final = 500
_DIGITS_MAX: Final = 19
_ASKED: Final = ("status", "kind", "source")
_STATUSES: Final = tuple(status.value for status in DeadLetterStatus)

_SAID: Final[Mapping[str, str]] = {
    "retry": "It is handed back, and tried again where it failed.",
    "edit": "The edit is kept, and it is handed back.",
    "discard": "It is given up.",
    "begun": "They are handed back, ten a second.",
    "stopped": "No more are handed back.",
}


def letter_routes(services: Services, desk: LetterDesk, retries: Retries) -> Blueprint:
    """Call this to get the routes."""
    routes = Blueprint("letters", __name__)

    @routes.get(paths.OPS_DEAD)
    async def found() -> Response:
        return await _list_page(services, desk, retries)

    @routes.post(paths.OPS_DEAD)
    async def many() -> Response:
        typed, member = await typed_by_member()
        match typed.get("action", ""):
            case "retry-all":
                kind, source = _kind(typed), _source(typed)
                if not retries.begin(f"member {member.user_id}", kind, source):
                    problem = "Somebody hands letters back already; wait for it, or stop it."
                    return await _list_page(services, desk, retries, problem=problem)
                said = "begun"
            case "stop":
                said = "stopped" if retries.stop() else ""
            case _:
                raise InvalidInput("action is retry-all or stop")
        return redirect(local_path(f"{paths.OPS_DEAD}?said={said}"))

    @routes.get(paths.OPS_LETTER)
    async def one(letter: str) -> Response:
        return await _letter_page(services, desk, _id(letter))

    @routes.post(paths.OPS_LETTER)
    async def decide(letter: str) -> Response:
        typed, member = await typed_by_member()
        id_, action = _id(letter), typed.get("action", "")
        try:
            await _decide(desk, id_, action, typed, f"member {member.user_id}")
        except UnknownDeadLetter:
            raise NoSuchThing("no such letter") from None
        except StoreMisuse as error:
            return await _letter_page(services, desk, id_, typed=typed, error=error)
        return redirect(local_path(f"{_path_of(id_)}?said={action}"))

    return routes


async def _decide(
    desk: LetterDesk, id_: int, action: str, typed: Mapping[str, str], by: str
) -> None:
    match action:
        case "retry":
            await desk.hand_back(id_, by)
        case "edit":
            written, mark = typed.get("payload", ""), typed.get("mark", "")
            await desk.edit_and_hand_back(id_, written, mark, by)
        case "discard":
            reason = typed.get("reason", "").strip()
            if not 1 <= len(reason) <= REASON_CHARS_MAX:
                raise BadReason
            await desk.letters.discard(id_, by, reason)
        case _:
            raise InvalidInput("action is retry, edit or discard")


class BadReason(StoreMisuse):
    """Raised for a letter that is given up without a reason, or with a book of one."""

    code = "bad_reason"

    def __init__(self) -> None:
        super().__init__(f"why it is given up takes 1 to {REASON_CHARS_MAX} characters")


async def _list_page(
    services: Services, desk: LetterDesk, retries: Retries, *, problem: str = ""
) -> Response:
    asked, state = request.args, current_request_state()
    status = asked.get("status") or DeadLetterStatus.PENDING.value
    if status not in _STATUSES:
        raise InvalidInput("status is none that is known")
    kind, source, after = _kind(asked), _source(asked), _after(asked.get("after", ""))
    letters = await desk.letters.list(
        status=DeadLetterStatus(status),
        kind=kind,
        source=source,
        limit=LETTERS_SHOWN,
        after=after,
    )
    counts = await desk.letters.counts()
    kept = {"status": status, "kind": kind or "", "source": source or ""}
    further = None
    if len(letters) == LETTERS_SHOWN:
        further = local_path(f"{paths.OPS_DEAD}?{urlencode({**kept, 'after': letters[-1].id})}")
    page = LettersPage(
        shell(services, state, "Dead letters", PAGE_OPERATORS),
        services.csrf_of(state),
        kept,
        _STATUSES,
        KINDS,
        tuple(map(_row, letters)),
        tuple((one.value, counts.by_status.get(one, 0)) for one in DeadLetterStatus),
        round(100 * counts.fullness),
        counts.health,
        further,
        _run(retries.progress),
        _SAID.get(asked.get("said", ""), ""),
        problem,
    )
    return form_response(services.renderer.letters_page(page), 409 if problem else 200)


async def _letter_page(
    services: Services,
    desk: LetterDesk,
    id_: int,
    *,
    typed: Mapping[str, str] | None = None,
    error: StoreMisuse | None = None,
) -> Response:
    state, stored = current_request_state(), await _get(desk, id_)
    letter, given = stored.letter, typed or {}
    shown = shown_payload(letter.payload)
    is_editable = shown.is_editable and letter.event_id is None and letter.kind != "projection"
    mark = mark_of_payload(letter.payload)
    # An edit that was not taken stands there again, unless somebody else's was meanwhile: the next
    # try would overwrite that, unseen.
    is_kept = error is not None and given.get("mark") == mark
    page = LetterPage(
        shell(services, state, f"Dead letter {id_}", PAGE_OPERATORS),
        services.csrf_of(state),
        _row(stored),
        _facts(stored),
        stored.first_failed_at,
        shown_text(letter.error_details or letter.error_message),
        shown.text,
        tuple(map(_change, await desk.letters.changes(id_, CHANGES_SHOWN))),
        mark if is_editable else "",
        given.get("payload") if is_kept else None,
        given.get("reason", ""),
        "" if error else _SAID.get(request.args.get("said", ""), ""),
        "" if error is None else shown_text(str(error)),
    )
    status = 200 if error is None else 422 if isinstance(error, BadEdit | BadReason) else 409
    return form_response(services.renderer.letter_page(page), status)


async def _get(desk: LetterDesk, id_: int) -> StoredDeadLetter:
    try:
        return await desk.letters.get(id_)
    except UnknownDeadLetter:
        raise NoSuchThing("no such letter") from None


def _row(stored: StoredDeadLetter) -> LetterRow:
    letter = stored.letter
    error = shown_text(letter.error_message)
    return LetterRow(
        stored.id,
        stored.status.value,
        letter.kind,
        shown_text(letter.source),
        stored.retry_count + 1,
        stored.last_failed_at,
        error if len(error) <= ERROR_SHOWN_CHARS else error[:ERROR_SHOWN_CHARS] + "…",
        _path_of(stored.id),
    )


def _facts(stored: StoredDeadLetter) -> tuple[tuple[str, str], ...]:
    letter = stored.letter
    facts = {
        "Tenant": letter.tenant,
        "Message": letter.message_id,
        "Stream": letter.stream_id,
        "Place in it": letter.stream_version,
        "Event": letter.event_type,
        "To be tried again since": stored.next_retry_at,
        "Settled by": stored.resolved_by,
        "Because": stored.resolution_notes,
        **{f"With it: {name}": text for name, text in shown_texts(letter.metadata).items()},
    }
    return tuple((name, shown_text(str(told))) for name, told in facts.items() if told)


def _change(change: LetterChange) -> LetterChangeView:
    is_moved = change.from_status is not change.to_status
    is_edit = change.notes.startswith(EDITED)
    what = f"{change.from_status.value} → {change.to_status.value}" if is_moved else ""
    notes = change.notes.removeprefix(EDITED) if is_edit else change.notes
    return LetterChangeView(
        change.at, change.by, "edited" if is_edit else what or "asked", shown_text(notes)
    )


def _run(progress: Progress | None) -> RunView | None:
    if progress is None:
        return None
    what = " ".join(filter(None, (progress.kind or "all kinds", progress.source)))
    return RunView(
        what,
        progress.by,
        progress.total,
        progress.handed_back,
        progress.refused,
        progress.came_back,
        progress.left,
        shown_text(progress.last_error),
        progress.ended.value if progress.ended else "",
    )


def _kind(asked: Mapping[str, str]) -> str | None:
    kind = asked.get("kind") or None
    if kind is not None and kind not in KINDS:
        raise InvalidInput("kind is none that is known")
    return kind


def _source(asked: Mapping[str, str]) -> str | None:
    source = asked.get("source") or None
    if source is not None and (len(source.encode()) > KEY_BYTES_MAX or not source.isprintable()):
        raise InvalidInput("source is none that can be")
    return source


def _after(text: str) -> int | None:
    return _number(text, InvalidInput("after is the number of a letter")) if text else None


def _id(text: str) -> int:
    return _number(text, NoSuchThing("no such letter"))


def _number(text: str, error: Exception) -> int:
    is_number = text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX
    if not (is_number and 1 <= int(text) <= BIGINT_MAX):
        raise error
    return int(text)


def _path_of(id_: int) -> LocalPath:
    return local_path(paths.OPS_LETTER.replace("<letter>", str(id_)))
