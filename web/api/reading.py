"""What a request says: its body as a value (WEB-13), and the labels it carries (WEB-10, WEB-12)."""

from functools import lru_cache
from typing import TypeVar, cast, overload

import msgspec
from quart import request

from web.api.errors import bad_request, unsupported, validation
from web.api.shapes import (
    problems_of,
    refuses_unknown,
    unknown_fields,
    why_unread,
)
from web.server import FieldProblem, current_request_state
from web.server.edge.span import user_agent_of

T = TypeVar("T")
D = TypeVar("D")

JSON = "application/json"
# What a client is called that does not say what it is.
UNKNOWN_AGENT = "Unknown"


@overload
async def body(kind: type[T], *, lenient: str = "") -> T: ...
@overload
async def body(kind: type[T], *, lenient: str = "", when_empty: D) -> T | D: ...
async def body(kind: type[T], *, lenient: str = "", when_empty: object = None) -> object:
    """Call this for the JSON a client sent, as a `kind`: `order = await body(PlaceOrder)`.

    `kind` is made of structs, and unknown fields are refused whatever these say of them, unless
    `lenient` says why they are ignored here. `when_empty` is given where no body came at all.

    Another media type is answered 415, bad syntax 400 with its place, a wrong shape 422 with every
    field that is wrong. Over the limit (1 MB below `/api`) 413 was answered before. Raises
    TypeError for a `kind` whose unknown fields nobody can tell.
    """
    data = await raw_body()
    if not data and when_empty is not None:
        return when_empty
    if request.mimetype != JSON:
        raise unsupported(f"This address reads {JSON} only.")
    why = why_unread(data)
    if why:
        raise bad_request(why)
    # As a plain object, for which both remember what they found out.
    plain: object = kind
    is_strict = refuses_unknown(plain)
    try:
        found = _decoder(plain).decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _why(data, kind, error, is_lenient=bool(lenient)) from error
    if not is_strict and not lenient:
        extra = unknown_fields(_parsed(data), kind)
        if extra:
            raise validation(_summary(extra), extra)
    return found


def correlation_id() -> str:
    """Call this for what joins all that this request leads to: the client's UUID, or ours.

    A label to log and to pass on; it names nothing that anybody could ask for (SEC-111).
    """
    state = current_request_state()
    return state.correlation_id or state.request_id


def user_agent() -> str:
    """Call this for what the client says it is, at most 1000 printable ASCII characters."""
    return user_agent_of(request.headers.get("user-agent")) or UNKNOWN_AGENT


def client_address() -> str:
    """Call this for the address that counts: the socket's, or what a trusted proxy says."""
    return current_request_state().address


async def raw_body() -> bytes:
    """Call this for the body as it came; it is kept for whoever reads it next."""
    data = await request.get_data()
    assert isinstance(data, bytes), "text is given only to who asks for it"
    return data


@lru_cache(256)
def _decoder(kind: object) -> msgspec.json.Decoder[object]:
    return msgspec.json.Decoder(cast("type", kind))


def _why(data: bytes, kind: object, error: Exception, *, is_lenient: bool) -> Exception:
    # A typed decoder stops at the first wrong value, before it has seen whether all is JSON.
    value = _parsed(data)
    found = problems_of(value, kind, is_lenient=is_lenient)
    if not found:
        # A type whose decoder asks more than its fields can show.
        found = [FieldProblem("body", str(error))]
    return validation(_summary(found), found)


def _parsed(data: bytes) -> object:
    """The JSON as plain values; raises the answer 400 to what is none."""
    try:
        return msgspec.json.decode(data)
    except UnicodeDecodeError as error:
        raise bad_request("JSON is malformed: text that is not UTF-8") from error
    except RecursionError as error:
        raise bad_request("JSON is nested too deep") from error
    except msgspec.DecodeError as error:
        text = str(error)
        if "(byte " not in text:
            text = f"JSON is malformed: it ends too early (byte {len(data)})"
        raise bad_request(text) from error


def _summary(found: list[FieldProblem]) -> str:
    first = found[0]
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return f"{first.field}: {first.problem}{more}"
