"""Bodies become values or name every wrong field; labels are read as strangers' words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import msgspec
import pytest
from quart import Response

from actors.runtime import Context, current_context
from tests.web.api.api_kit import Api, error, open_api, told
from web.api import (
    DEPTH_MAX,
    body,
    client_address,
    correlation_id,
    is_too_deep,
    ok,
    problems_of,
    user_agent,
)
from web.api.shapes import refuses_unknown, unknown_fields
from web.server import FieldProblem


class Item(msgspec.Struct, frozen=True):
    name: Annotated[str, msgspec.Meta(min_length=1)]
    quantity: Annotated[int, msgspec.Meta(gt=0)]


class Card(msgspec.Struct, frozen=True, tag="card", tag_field="type", forbid_unknown_fields=True):
    last_four: str


class Mail(msgspec.Struct, frozen=True, tag="mail", tag_field="type", forbid_unknown_fields=True):
    email: str


class Order(msgspec.Struct, frozen=True, rename="camel"):
    customer_id: str
    items: list[Item]
    payment: Card | Mail | None = None
    note: str | None = None


@dataclass
class Loose:
    name: str


class Holds(msgspec.Struct):
    loose: list[Loose]


GOOD = {"customerId": "c", "items": [{"name": "cup", "quantity": 2}]}


def echoing(api: Api) -> None:
    @api.app.post("/api/order")
    async def order() -> Response:
        return ok(await body(Order))

    @api.app.post("/api/lenient")
    async def lenient() -> Response:
        return ok(await body(Order, lenient="old clients send their version"))

    @api.app.post("/api/maybe")
    async def maybe() -> Response:
        return ok(await body(Order, when_empty={"empty": True}))

    @api.app.get("/api/labels")
    async def labels() -> Response:
        context = current_context() or Context("none")
        return ok(
            {
                "correlation": correlation_id(),
                "envelope": context.correlation_id,
                "trace": context.traceparent,
                "agent": user_agent(),
                "address": client_address(),
            }
        )


async def test_a_body_is_read_as_its_type() -> None:
    # WEB-13
    async with open_api(more=echoing) as api:
        reply = await api.ask("POST /api/order", GOOD)
        assert (reply.status, told(reply)["items"]) == (200, GOOD["items"])
        charset = {"Content-Type": "application/json; charset=utf-8"}
        assert (await api.ask("POST /api/order", GOOD, charset)).status == 200


@pytest.mark.parametrize(
    ("raw", "place"),
    [
        (b'{"customerId": "c", "items": [}', "(byte 30)"),
        (b'{"customerId": 1, "items": [', "(byte 28)"),  # wrong in shape before it is cut off
        (b'{"customerId": "c", "items": []} x', "(byte 34)"),
        (b"{'customerId': 'c'}", "(byte 1)"),
        (b"\xff\xfe", "(byte 0)"),
        (b'{"customerId": "\xff", "items": []}', "UTF-8"),
        (b'{"customerId": 01}', "invalid number"),
        (b"NaN", "(byte 0)"),
    ],
)
async def test_bad_syntax_is_400_with_its_place(raw: bytes, place: str) -> None:
    # WEB-13, WEB-1
    async with open_api(more=echoing) as api:
        reply = await api.ask("POST /api/order", raw)
        assert error(reply) == (400, "BAD_REQUEST")
        assert place in str(told(reply)["message"])


async def test_a_wrong_shape_is_422_with_every_field_that_is_wrong() -> None:
    # WEB-13, WEB-1
    wrong = {
        "items": [
            {"name": "", "quantity": "2"},
            {"name": "cup", "quantity": 0, "colour": "red"},
            7,
        ],
        "payment": {"type": "card", "last_four": 1234},
        "role": "admin",
    }
    async with open_api(more=echoing) as api:
        reply = await api.ask("POST /api/order", wrong)
        assert error(reply) == (422, "VALIDATION_ERROR")
        found = told(reply)
        assert found["details"] == [
            {"field": "customerId", "problem": "is missing"},
            {"field": "items[0].name", "problem": "Expected `str` of length >= 1"},
            {"field": "items[0].quantity", "problem": "Expected `int`, got `str`"},
            {"field": "items[1].quantity", "problem": "Expected `int` >= 1"},
            {"field": "items[2]", "problem": "Expected `object`, got `int`"},
            {"field": "payment.last_four", "problem": "Expected `str`, got `int`"},
            {"field": "role", "problem": "is not known here"},
            {"field": "items[1].colour", "problem": "is not known here"},
        ]
        assert found["message"] == "customerId: is missing (and 7 more)"


async def test_unknown_fields_are_named_however_the_type_was_made() -> None:
    # WEB-13, SEC-114
    async with open_api(more=echoing) as api:
        for name in ("role", "user_id", "status"):
            reply = await api.ask("POST /api/order", {**GOOD, name: "x"})
            assert error(reply) == (422, "VALIDATION_ERROR")
            assert told(reply)["details"] == [{"field": name, "problem": "is not known here"}]
        inner = {"customerId": "c", "items": [{"name": "cup", "quantity": 1, "price": 0}]}
        deep = await api.ask("POST /api/order", inner)
        assert told(deep)["message"] == "items[0].price: is not known here"
        for path in ("/api/lenient", "/api/maybe"):
            kept = await api.ask(f"POST {path}", {**GOOD, "role": "x"})
            assert kept.status == (200 if path == "/api/lenient" else 422)
        # Lenient says nothing about what is known.
        still = await api.ask("POST /api/lenient", {"customerId": 1, "items": [], "role": "x"})
        assert told(still)["details"] == [
            {"field": "customerId", "problem": "Expected `str`, got `int`"}
        ]


async def test_another_media_type_is_415_and_no_body_is_one_only_where_it_may_be() -> None:
    # WEB-13, WEB-1
    async with open_api(more=echoing) as api:
        for media in ("text/plain", "application/x-www-form-urlencoded", "application/jsonp"):
            reply = await api.ask("POST /api/order", GOOD, {"Content-Type": media})
            assert error(reply) == (415, "UNSUPPORTED_MEDIA_TYPE")
        none = await api.ask("POST /api/order")
        assert error(none) == (415, "UNSUPPORTED_MEDIA_TYPE")
        empty = await api.ask("POST /api/order", headers={"Content-Type": "application/json"})
        assert error(empty) == (400, "BAD_REQUEST")
        assert told(await api.ask("POST /api/maybe")) == {"empty": True}


async def test_a_body_over_a_megabyte_is_413_and_one_below_is_read() -> None:
    # WEB-13, SEC-119
    async with open_api(more=echoing) as api:
        most = {**GOOD, "note": "x" * 1_048_400}
        assert (await api.ask("POST /api/order", most)).status == 200
        over = {**GOOD, "note": "x" * 1_048_600}
        assert error(await api.ask("POST /api/order", over)) == (413, "PAYLOAD_TOO_LARGE")


async def test_json_nested_more_than_32_deep_is_400() -> None:
    # WEB-13, SEC-119
    async with open_api(more=echoing) as api:
        for raw in (
            b"[" * 33 + b"]" * 33,
            b'{"a":' * 33 + b"1" + b"}" * 33,
            b"[" * 500_000 + b"]" * 500_000,
            b"[" * 1_000_000,
        ):
            reply = await api.ask("POST /api/order", raw)
            assert error(reply) == (400, "BAD_REQUEST")
        # As deep as may be, and of another shape.
        fits = await api.ask("POST /api/order", b"[" * 32 + b"]" * 32)
        assert error(fits) == (422, "VALIDATION_ERROR")


def nested(depth: int) -> bytes:
    return b'{"a":[' * (depth // 2) + b"[" * (depth % 2) + b"]" * (depth % 2) + b"]}" * (depth // 2)


def test_depth_is_counted_whatever_stands_in_texts() -> None:
    # SEC-119
    for depth in (1, 31, 32):
        assert not is_too_deep(nested(depth))
    for depth in (33, 34, 1000):
        assert is_too_deep(nested(depth))
    assert not is_too_deep(b'["' + b"[" * 100 + b'"]')
    assert not is_too_deep(b'["\\"' + b"[{" * 100 + b'"]')
    assert not is_too_deep(b"[" + b",".join([b"[]"] * 1000) + b"]")
    assert is_too_deep(b'{"x":"[[","y":' + nested(DEPTH_MAX) + b"}")


def test_depth_is_counted_in_a_megabyte_of_brackets() -> None:
    # SEC-119
    size = 1_000_000
    assert not is_too_deep(b"[]" * (size // 2))
    assert not is_too_deep((b"[" * 32 + b"]" * 32) * (size // 64))
    assert is_too_deep((b"[" * 33 + b"]" * 33) * (size // 66))
    assert is_too_deep(b"[" * (size // 2) + b"]" * (size // 2))
    # Never closed: no JSON, which is for its reader to say.
    assert not is_too_deep(b"[" * size)


def test_problems_of_unions_lists_and_tags() -> None:
    # WEB-13
    assert problems_of({"type": "cash"}, Card | Mail) == [
        FieldProblem("type", "Invalid value 'cash'")
    ]
    assert problems_of({"last_four": "1"}, Card | Mail)[0].field == "body"
    assert problems_of([1, "x"], list[int]) == [FieldProblem("[1]", "Expected `int`, got `str`")]
    assert problems_of(["x"], tuple[int, ...] | None)[0].field == "[0]"
    assert problems_of({"a": "x"}, dict[str, int])[0].field == "[...]"
    assert problems_of(None, Order)[0] == FieldProblem("body", "Expected `object`, got `null`")
    assert len(problems_of(["x"] * 1000, list[int])) == 20
    assert problems_of(GOOD, Order) == []
    few = Annotated[list[int], msgspec.Meta(max_length=2)]
    assert problems_of([1, 2, 3], few) == [FieldProblem("body", "Expected `array` of length <= 2")]
    assert problems_of({"a": {"last_four": "1", "x": 1}}, dict[str, Card]) != []
    assert [one.field for one in unknown_fields({"a": {"x": 1}}, dict[str, Item])] == ["a.x"]
    assert problems_of({"customerId": "c", "items": [], "role": 1}, Order, is_lenient=True) == []


def test_every_wrong_item_of_a_long_list_is_found() -> None:
    # WEB-13
    numbers: list[object] = [1] * 100_000
    numbers[7] = numbers[99_999] = "x"
    assert [one.field for one in problems_of(numbers, list[int])] == ["[7]", "[99999]"]
    items = [{"name": "a", "quantity": 1} for _ in range(10_000)]
    items[9_999] = {"name": "a", "quantity": 1, "price": 2}
    assert [one.field for one in problems_of(items, list[Item])] == ["[9999].price"]
    assert unknown_fields(items[:-1], list[Item]) == []


def test_a_type_whose_unknown_fields_nobody_can_tell_is_refused() -> None:
    # WEB-13, SEC-114
    for kind in (Loose, list[Loose], Holds):
        with pytest.raises(TypeError, match=r"Loose must be a msgspec\.Struct"):
            refuses_unknown(kind)
    assert refuses_unknown(Card | Mail)
    assert not refuses_unknown(list[Order])


async def test_a_correlation_id_that_is_a_uuid_is_kept_and_told_back() -> None:
    # WEB-10, SEC-111
    given = "0123abcd-0123-4123-8123-0123456789AB"
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with open_api(more=echoing) as api:
        headers = {"X-Correlation-ID": given, "traceparent": trace}
        reply = await api.ask("GET /api/labels", headers=headers)
        found = told(reply)
        assert (found["correlation"], found["envelope"], found["trace"]) == (given, given, trace)
        assert reply.headers["x-correlation-id"] == given
        assert reply.headers["x-request-id"] != given
        assert api.spans[-1].correlation_id == given
        # On errors too, of the edge as well as of routes.
        for line, status in (
            ("GET /api/no", 404),
            ("PURGE /api/no", 501),
            ("PUT /api/labels", 405),
        ):
            failed = await api.ask(line, headers=headers)
            assert (failed.status, failed.headers["x-correlation-id"]) == (status, given)
        large = await api.ask("POST /api/order", b"x" * 1_100_000, headers)
        assert (large.status, large.headers["x-correlation-id"]) == (413, given)


@pytest.mark.parametrize(
    "given",
    [
        None,
        "",
        "order-7",
        "0123abcd01234123812301234567890ab",
        "{0123abcd-0123-4123-8123-0123456789ab}",
        "0123abcd-0123-4123-8123-0123456789ab, 0123abcd-0123-4123-8123-0123456789ab",
        "0123abcd-0123-4123-8123-0123456789aé",
    ],
)
async def test_without_a_uuid_there_is_a_new_one(given: str | None) -> None:
    # WEB-10, CORE-32, SEC-111
    async with open_api(more=echoing) as api:
        headers = {} if given is None else {"X-Correlation-ID": given}
        first = await api.ask("GET /api/labels", headers=headers)
        again = await api.ask("GET /api/labels", headers=headers)
        minted = first.headers["x-correlation-id"]
        assert told(first)["envelope"] == minted != given
        assert again.headers["x-correlation-id"] != minted
        page = await api.ask("GET /", headers=headers)
        assert "x-correlation-id" not in page.headers


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, "Unknown"),
        ("curl/8.5.0 (x)", "curl/8.5.0 (x)"),
        ("a\tb\xe9c", "abc"),
        ("\xe9" * 300 + "x" * 1500, "x" * 1000),
        ("\xe9", "Unknown"),
    ],
)
async def test_a_client_is_what_it_says_in_printable_ascii(
    given: str | None, expected: str
) -> None:
    # WEB-12
    async with open_api(more=echoing) as api:
        headers = {} if given is None else {"User-Agent": given}
        found = told(await api.ask("GET /api/labels", headers=headers))
        assert found["agent"] == expected
        assert found["address"] == "127.0.0.1"
