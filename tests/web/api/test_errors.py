"""Each row of the error table, as a client program and as a person get it."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
import trio
from quart import Response
from structlog.testing import capture_logs
from trio.testing import MockClock

from actors.persistence.errors import (
    ConcurrencyConflict,
    EventTooLarge,
    Fenced,
    ForeignTenant,
    IdempotencyInFlight,
    IdempotencyMismatch,
    PoolExhausted,
    StoreTimeout,
    StoreUnavailable,
)
from actors.runtime import AskTimeout, MailboxFull
from tests.web.api.api_kit import Api, error, open_api, told
from web import api as helpers
from web.api.errors import MESSAGE_CHARS_MAX
from web.server import ErrorAnswer, ErrorTable, FieldProblem
from web.server.edge.answers import DETAILS_MAX
from web.server.quart_app import AWAY_TOLD_EVERY_S

# helper -> status, code, message, headers of its own
Row = tuple[Callable[[], ErrorAnswer], tuple[int, str, str, dict[str, str]]]
ROWS: dict[str, Row] = {
    "bad": (
        lambda: helpers.bad_request("JSON is malformed (byte 3)"),
        (400, "BAD_REQUEST", "JSON is malformed (byte 3)", {}),
    ),
    "who": (
        lambda: helpers.unauthorized("Who are you?"),
        (401, "UNAUTHORIZED", "Who are you?", {"www-authenticate": "Bearer"}),
    ),
    "paid": (
        lambda: helpers.payment_failed("The card was declined"),
        (402, "PAYMENT_FAILED", "The card was declined", {}),
    ),
    "no": (
        lambda: helpers.forbidden("Not yours to change"),
        (403, "FORBIDDEN", "Not yours to change", {}),
    ),
    "up": (
        lambda: helpers.step_up("MultiFactor"),
        (
            403,
            "STEP_UP_REQUIRED",
            "This needs a sign-in of level MultiFactor.",
            {"x-greenroom-step-up": "MultiFactor"},
        ),
    ),
    "none": (
        lambda: helpers.not_found("Order", "order-7"),
        (404, "NOT_FOUND", "Order with id order-7 not found", {}),
    ),
    "method": (
        lambda: helpers.method_not_allowed("POST", "GET"),
        (405, "METHOD_NOT_ALLOWED", "This address does not do that.", {"allow": "GET, POST"}),
    ),
    "late": (
        lambda: helpers.timeout("Look at /orders/7"),
        (408, "TIMEOUT", "Look at /orders/7", {}),
    ),
    "race": (
        lambda: helpers.conflict("Sold out"),
        (409, "CONFLICT", "Sold out", {}),
    ),
    "flight": (
        helpers.in_flight,
        (
            409,
            "IDEMPOTENCY_IN_FLIGHT",
            "A request with this Idempotency-Key is being handled; ask again in a moment.",
            {"retry-after": "1"},
        ),
    ),
    "large": (
        lambda: helpers.too_large(1000),
        (413, "PAYLOAD_TOO_LARGE", "At most 1000 bytes fit here.", {}),
    ),
    "media": (
        lambda: helpers.unsupported("JSON only"),
        (415, "UNSUPPORTED_MEDIA_TYPE", "JSON only", {}),
    ),
    "shape": (
        lambda: helpers.validation("Two things are wrong"),
        (422, "VALIDATION_ERROR", "Two things are wrong", {}),
    ),
    "mismatch": (
        helpers.mismatch,
        (
            422,
            "IDEMPOTENCY_MISMATCH",
            "This Idempotency-Key was used for another request; a new request needs a new key.",
            {},
        ),
    ),
    "often": (
        lambda: helpers.too_many(2.1),
        (429, "TOO_MANY_REQUESTS", "That was too often; wait a moment.", {"retry-after": "3"}),
    ),
    "ours": (
        helpers.internal,
        (500, "INTERNAL_SERVER_ERROR", "An internal error occurred", {}),
    ),
    "away": (
        lambda: helpers.unavailable("The bank is closed", 60),
        (503, "SERVICE_UNAVAILABLE", "The bank is closed", {"retry-after": "60"}),
    ),
}


def failing(api: Api) -> None:
    async def fail(word: str) -> Response:
        made = ROWS[word][0]()
        raise made

    api.app.add_url_rule("/api/fail/<word>", "fail api", view_func=fail)
    api.app.add_url_rule("/fail/<word>", "fail page", view_func=fail)


async def test_each_row_has_its_status_code_headers_and_text() -> None:
    # WEB-1
    async with open_api(more=failing) as api:
        for word, (_, (status, code, message, headers)) in ROWS.items():
            reply = await api.ask(f"GET /api/fail/{word}")
            assert reply.status == status, word
            assert reply.headers["content-type"] == "application/json"
            assert reply.body == msgspec.json.encode({"code": code, "message": message}), word
            assert {name: reply.headers.get(name) for name in headers} == headers, word
            assert "retry-after" in headers or "retry-after" not in reply.headers, word
            assert "content-security-policy" in reply.headers, word


async def test_a_page_has_the_same_status_and_html() -> None:
    # WEB-1, SITE-151
    async with open_api(more=failing) as api:
        for word, (_, (status, _, message, _)) in ROWS.items():
            page = await api.ask(f"GET /fail/{word}")
            assert page.status == (503 if status == 408 else status), word
            assert page.headers["content-type"] == "text/html; charset=utf-8"
            if status not in (408, 500):
                assert message.encode() in page.body, word


async def test_unknown_paths_and_methods_below_api_have_the_same_shape() -> None:
    # WEB-1
    async with open_api(more=failing) as api:
        assert error(await api.ask("GET /api/nothing")) == (404, "NOT_FOUND")
        assert error(await api.ask("GET /api/v1/parcels/x/y/z")) == (404, "NOT_FOUND")
        wrong = await api.ask("DELETE /api/v1/parcels")
        assert error(wrong) == (405, "METHOD_NOT_ALLOWED")
        assert set(wrong.headers["allow"].split(", ")) == {"GET", "HEAD", "OPTIONS", "POST"}
        strange = await api.ask("PURGE /api/v1/parcels")
        assert error(strange) == (405, "METHOD_NOT_ALLOWED")
        assert (await api.ask("GET /nothing")).headers["content-type"].startswith("text/html")


async def test_only_validation_has_details_and_at_most_twenty() -> None:
    # WEB-1
    many = [FieldProblem(f"items[{n}].quantity", "is missing") for n in range(30)]

    def more(api: Api) -> None:
        @api.app.get("/api/many")
        async def many_problems() -> Response:
            raise helpers.validation("Much is missing", many)

    async with open_api(more=more) as api:
        reply = await api.ask("GET /api/many")
        assert error(reply) == (422, "VALIDATION_ERROR")
        details = told(reply)["details"]
        assert isinstance(details, list)
        assert len(details) == DETAILS_MAX
        assert details[0] == {"field": "items[0].quantity", "problem": "is missing"}


async def test_what_was_sent_comes_back_cut_and_harmless() -> None:
    # WEB-1, SEC-131
    def more(api: Api) -> None:
        async def look(id_: str) -> Response:
            raise helpers.not_found("Order", id_)

        api.app.add_url_rule("/api/look/<id_>", "look api", view_func=look)
        api.app.add_url_rule("/look/<id_>", "look page", view_func=look)

    async with open_api(more=more) as api:
        strange = "%3Cscript%3E%0A%1b[31m%F0%9F%90%88"
        reply = await api.ask(f"GET /api/look/{strange}")
        message = "Order with id <script>\\u000a\\u001b[31m🐈 not found"
        assert told(reply)["message"] == message
        page = await api.ask(f"GET /look/{strange}")
        assert b"<script>" not in page.body
        assert b"&lt;script&gt;" in page.body
        long = await api.ask(f"GET /api/look/{'x' * 5000}")
        assert len(str(told(long)["message"])) == MESSAGE_CHARS_MAX
        lone = await api.ask("GET /api/look/%ED%A0%80")
        assert error(lone) == (404, "NOT_FOUND")


async def test_a_5xx_is_logged_with_its_cause_and_correlation_id_and_a_4xx_is_not() -> None:
    # WEB-2
    def more(api: Api) -> None:
        failing(api)

        @api.app.get("/api/bug")
        async def bug() -> Response:
            try:
                raise KeyError("the real cause")
            except KeyError as cause:
                raise helpers.internal() from cause

    given = "0123abcd-0123-4123-8123-0123456789AB"
    async with open_api(more=more) as api:
        with capture_logs() as logged:
            reply = await api.ask("GET /api/bug", headers={"X-Correlation-ID": given})
            await api.ask("GET /api/fail/race")
    assert b"real cause" not in reply.body
    failed = [line for line in logged if line["event"] == "request.failed"]
    assert [line["correlation_id"] for line in failed] == [given]
    assert isinstance(failed[0]["exc_info"].__cause__, KeyError)
    refused = [line for line in logged if line["event"] == "request.refused"]
    assert [(line["log_level"], line["status"]) for line in refused] == [("debug", 409)]


async def test_what_is_away_is_logged_once_and_then_counted(autojump_clock: MockClock) -> None:
    # SITE-155, WEB-2: a known state is no traceback at each request; its count is told
    away: list[Exception] = []

    def more(api: Api) -> None:
        @api.app.get("/api/away")
        async def fail() -> Response:
            raise away[0]

    def lines(level: str) -> list[tuple[object, object]]:
        return [
            (line["kind"], line.get("others"))
            for line in logged
            if (line["event"], line["log_level"]) == ("request.unavailable", level)
        ]

    async with open_api(more=more) as api:
        with capture_logs() as logged:
            away[:] = [StoreUnavailable("gone")]
            for _ in range(5):
                assert (await api.ask("GET /api/away")).status == 503
            assert lines("warning") == [("StoreUnavailable", 0)]
            assert len(lines("debug")) == 4
            # Another thing that is away is told at once.
            away[:] = [StoreTimeout(1.0)]
            await api.ask("GET /api/away")
            await trio.sleep(AWAY_TOLD_EVERY_S)
            away[:] = [StoreUnavailable("gone")]
            await api.ask("GET /api/away")
    assert lines("warning") == [
        ("StoreUnavailable", 0), ("StoreTimeout", 0), ("StoreUnavailable", 4),
    ]  # fmt: skip
    assert all(line["correlation_id"] for line in logged if line["event"] == "request.unavailable")
    assert "request.failed" not in {line["event"] for line in logged}


@pytest.mark.parametrize(
    ("raised", "status", "code", "retry"),
    [
        (ConcurrencyConflict("a-1", 1, 2), 409, "CONFLICT", None),
        (Fenced(3, 1, 2), 503, "SERVICE_UNAVAILABLE", 1),
        (IdempotencyMismatch("scope", "key"), 422, "IDEMPOTENCY_MISMATCH", None),
        (IdempotencyInFlight("scope", "key"), 409, "IDEMPOTENCY_IN_FLIGHT", 1),
        (EventTooLarge("Made", 2, 1), 413, "PAYLOAD_TOO_LARGE", None),
        (StoreUnavailable("gone"), 503, "SERVICE_UNAVAILABLE", 1),
        (StoreTimeout(1.0), 503, "SERVICE_UNAVAILABLE", 1),
        (PoolExhausted(3, 2), 503, "SERVICE_UNAVAILABLE", 1),
        (ForeignTenant("one", "other"), 404, "NOT_FOUND", None),
        (AskTimeout("a", object(), 1.0, "queued"), 503, "SERVICE_UNAVAILABLE", 1),
        (MailboxFull("a", 1, object()), 503, "SERVICE_UNAVAILABLE", 1),
        (ValueError("a bug"), 500, "INTERNAL_SERVER_ERROR", None),
    ],
    ids=lambda one: type(one).__name__ if isinstance(one, Exception) else "",
)
def test_what_actors_and_the_store_raise_has_its_row(
    raised: Exception, status: int, code: str, retry: int | None
) -> None:
    # WEB-1, STORE-55
    table = ErrorTable()
    helpers.add_errors(table)
    row = table.row(raised)
    assert (row.status, row.code, row.retry_after_s) == (status, code, retry)
    assert str(raised) != row.text
    both = table.row(ExceptionGroup("", [helpers.not_found("X", 1), raised]))
    assert both.status == max(status, 404)


def test_nonsense_is_refused_where_it_is_written() -> None:
    # WEB-1
    with pytest.raises(ValueError, match="names the methods"):
        helpers.method_not_allowed()
    for level in ("", "Multi\r\nFactor", "zwölf"):
        with pytest.raises(ValueError, match="a word of ASCII letters"):
            helpers.step_up(level)
    assert helpers.too_many(0.0).row.retry_after_s == 1
    assert str(helpers.conflict("Sold out")) == "409 CONFLICT: Sold out"
