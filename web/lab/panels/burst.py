"""The probe that a burst asks for: nothing but a request and its answer (SITE-140).

Nothing is read, nobody is asked: what is measured is the way through the server.
"""

from math import ceil

import trio
from quart import Blueprint, Response

from web.lab.panels.bucket import Buckets
from web.routing import paths
from web.server import REQUEST_S, current_request_state


def burst_routes(buckets: Buckets) -> Blueprint:
    """Call this to get the route of the probe."""
    routes = Blueprint("burst", __name__)

    @routes.get(paths.BURST_PROBE)
    async def probe() -> Response:
        state = current_request_state()
        session = None if state.visitor.is_new else state.visitor.id
        taken = buckets.take(session, state.address)
        # A request has so long from its head on: so its deadline tells when it came in.
        took_ms = 1000 * (trio.current_time() - (state.deadline - REQUEST_S))
        headers = {
            "cache-control": "no-store",
            "server-timing": f"app;dur={max(0.0, took_ms):.3f}",
            "x-burst-tokens": str(taken.left),
        }
        if taken.wait_s > 0:
            headers["retry-after"] = str(ceil(taken.wait_s))
        status = 429 if taken.wait_s > 0 else 204
        return Response(b"", status=status, content_type=None, headers=headers)

    return routes
