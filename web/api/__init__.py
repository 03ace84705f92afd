"""What routes for client programs are made of: read, hand to an actor, answer.

Read `errors.py` (what a route raises), `shapes.py` (whether JSON fits a type, and where not),
`reading.py` (what a request says), `outcomes.py` (the four ways to answer), `idempotency.py` (one
request, one effect), `limits.py` (how often, told with each answer), `positions.py` (reading one's
own writes), `pages.py` (lists in pieces).
Nothing here knows a feature or a site: a route of one's own uses it inside any `WebApp`.
"""

from web.api.errors import (
    add_errors,
    bad_request,
    conflict,
    forbidden,
    in_flight,
    internal,
    method_not_allowed,
    mismatch,
    not_found,
    payment_failed,
    step_up,
    timeout,
    too_large,
    too_many,
    unauthorized,
    unavailable,
    unsupported,
    validation,
)
from web.api.idempotency import IdempotencyKeys, effect_key, maybe_done
from web.api.limits import count, keep_within, rate_limit_headers
from web.api.outcomes import (
    OUTCOME_S_MAX,
    Refusals,
    accept,
    accepted,
    carry_out,
    created,
    ok,
    read_state,
    wait_milestone,
    wait_outcome,
)
from web.api.pages import PAGE_LIMIT, PAGE_LIMIT_MAX, Page, Pages
from web.api.positions import catch_up
from web.api.reading import body, client_address, correlation_id, user_agent
from web.api.shapes import DEPTH_MAX, is_too_deep, problems_of, why_unread

__all__ = [
    "DEPTH_MAX",
    "OUTCOME_S_MAX",
    "PAGE_LIMIT",
    "PAGE_LIMIT_MAX",
    "IdempotencyKeys",
    "Page",
    "Pages",
    "Refusals",
    "accept",
    "accepted",
    "add_errors",
    "bad_request",
    "body",
    "carry_out",
    "catch_up",
    "client_address",
    "conflict",
    "correlation_id",
    "count",
    "created",
    "effect_key",
    "forbidden",
    "in_flight",
    "internal",
    "is_too_deep",
    "keep_within",
    "maybe_done",
    "method_not_allowed",
    "mismatch",
    "not_found",
    "ok",
    "payment_failed",
    "problems_of",
    "rate_limit_headers",
    "read_state",
    "step_up",
    "timeout",
    "too_large",
    "too_many",
    "unauthorized",
    "unavailable",
    "unsupported",
    "user_agent",
    "validation",
    "wait_milestone",
    "wait_outcome",
    "why_unread",
]
