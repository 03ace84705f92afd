"""Reading one's own writes over HTTP (PROJ-6): positions in the order of events, as headers.

An answer to a command carries `X-Greenroom-Position`. A client that sends it back with a read, as
`X-Greenroom-After`, is answered when the projection that is read has come so far, or with
`X-Greenroom-Stale: true` when it has not in two seconds. `carry_out` keeps the position, a route
that reads a projection awaits `catch_up`, and every answer made by `web.api` has the headers.
"""

from quart import Response, g, has_request_context, request

from actors.persistence import Cursor, ProjectionHalted, ProjectionTimeout, Rebuilding, wait_until
from actors.persistence.projections.waiting import WAIT_S, Checkpoints
from web.api.errors import bad_request

POSITION_HEADER = "x-greenroom-position"
AFTER_HEADER = "x-greenroom-after"
STALE_HEADER = "x-greenroom-stale"


def keep_position(cursor: Cursor | None) -> None:
    """Call this with where a command's events stand; None, nothing was stored, changes nothing."""
    if cursor is not None and has_request_context():
        g.position = cursor


async def catch_up(projections: Checkpoints, name: str, *, timeout_s: float = WAIT_S) -> bool:
    """Call this in a route before it reads a projection: waits for what its client has seen.

    Without the header it returns at once. False when the projection is not there in time, or is
    halted, or built anew: what is read is old then, and the answer says so. A position that cannot
    be read is answered 400; one of another store is waited for in vain.
    """
    given = request.headers.getlist(AFTER_HEADER)
    if not given:
        return True
    if len(given) > 1:
        raise bad_request(f"{AFTER_HEADER} comes {len(given)} times")
    try:
        wanted = Cursor.parse(given[0])
    except ValueError as error:
        raise bad_request(f"{AFTER_HEADER}: {error}") from error
    try:
        await wait_until(projections, name, wanted, timeout_s=timeout_s)
    except (ProjectionTimeout, ProjectionHalted, Rebuilding):
        g.is_stale = True
        return False
    return True


def add_positions(response: Response) -> None:
    """Called with each answer that `web.api` makes: says what is known of positions."""
    if not has_request_context():
        return
    position = g.get("position")
    if position is not None:
        response.headers[POSITION_HEADER] = str(position)
    if g.get("is_stale"):
        response.headers[STALE_HEADER] = "true"
