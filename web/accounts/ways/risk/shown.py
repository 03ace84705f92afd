"""What a program shows of its device when it signs in, for services that collect that (AUTH-24).

Rule 1: behind `take_shown` there are digests only; what was shown is kept, logged and told nowhere.
"""

from typing import Annotated

import msgspec

from actors.accounts.kept.devices.fingerprint import PART_CHARS_MAX, fingerprint_of
from actors.persistence.errors import InvalidField
from web.accounts.entering import AccountServices
from web.api import validation
from web.server import FieldProblem, RequestState

FIELD = "fingerprint"
Part = Annotated[str, msgspec.Meta(max_length=PART_CHARS_MAX)]


class Shown(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The parts that are compared; one that is empty, or not there, was not shown."""

    canvas: Part = ""
    webgl: Part = ""
    audio: Part = ""
    fonts: Part = ""
    plugins: Part = ""
    renderer: Part = ""
    screen: Part = ""
    timezone: Part = ""
    languages: Part = ""
    color_depth: Part = ""
    cpu: Part = ""
    memory: Part = ""
    concurrency: Part = ""


def take_shown(services: AccountServices, state: RequestState, shown: Shown | None) -> None:
    """Call this before a program is signed in; 422 for what cannot be, and where none is collected.

    Parts that weigh less than a device's together tell none: the sign-in goes on without them.
    """
    if shown is None:
        return
    if not services.arrivals.takes_shown:
        problem = FieldProblem(FIELD, "is not known here")
        raise validation(f"{FIELD}: {problem.problem}", [problem])
    try:
        state.shown = fingerprint_of(msgspec.structs.asdict(shown))
    except InvalidField as error:
        problem = FieldProblem(f"{FIELD}.{error.field}", "holds a character that no text may")
        raise validation(f"{problem.field}: {problem.problem}", [problem]) from None
