"""Codes that a person types: those of the RFC, of the wrong time, used, and mistyped."""

from datetime import UTC, datetime, timedelta

import pytest

from actors.accounts.kept.factors import (
    STEP_S,
    code_of_step,
    in_groups,
    new_recovery_codes,
    new_totp_secret,
    parse_recovery_code,
    parse_totp,
    recovery_digest,
    secret_text,
    step_of,
    step_of_code,
)

SECRET = b"12345678901234567890"
NOW = datetime(2026, 3, 1, 12, 0, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    ("at", "code"),
    [
        (59, "287082"),
        (1111111109, "081804"),
        (1111111111, "050471"),
        (1234567890, "005924"),
        (2000000000, "279037"),
        (20000000000, "353130"),
    ],
)
def test_codes_are_those_of_the_rfc(at: int, code: str) -> None:
    # AUTH-9: RFC 6238 appendix B, the last six of its eight digits
    assert code_of_step(SECRET, at // STEP_S) == code


def test_a_code_is_good_one_step_around_and_once() -> None:
    # AUTH-9
    step = step_of(NOW)
    for away, is_good in ((-2, False), (-1, True), (0, True), (1, True), (2, False)):
        found = step_of_code(SECRET, code_of_step(SECRET, step + away), NOW, 0)
        assert found == (step + away if is_good else None), away
    code = code_of_step(SECRET, step)
    assert step_of_code(SECRET, code, NOW, step - 1) == step
    assert step_of_code(SECRET, code, NOW, step) is None
    assert step_of_code(SECRET, code, NOW, step + 1) is None
    assert step_of_code(SECRET, code, NOW + timedelta(seconds=2 * STEP_S), 0) is None
    assert step_of_code(SECRET, code_of_step(b"x" * 20, step), NOW, 0) is None
    epoch = datetime.fromtimestamp(1, UTC)
    assert step_of_code(SECRET, code_of_step(SECRET, 0), epoch, -1) == 0
    with pytest.raises(ValueError, match="1970"):
        code_of_step(SECRET, -1)


def test_of_two_steps_with_one_code_both_are_used_up() -> None:
    # AUTH-9: a secret, found by trying, whose neighbouring steps share a code
    secret, step = (1079560).to_bytes(20), step_of(NOW)
    code = code_of_step(secret, step)
    assert code == code_of_step(secret, step + 1)
    assert step_of_code(secret, code, NOW, 0) == step + 1
    assert step_of_code(secret, code, NOW, step + 1) is None


@pytest.mark.parametrize(
    ("typed", "code"),
    [
        ("123456", "123456"),
        (" 123 456 ", "123456"),
        ("123-456", "123456"),
        ("12345", None),
        ("1234567", None),
        ("12345a", None),
        ("\u0661\u0662\u0663\u0664\u0665\u0666", None),
        ("\u00b2\u00b2\u00b2\u00b2\u00b2\u00b2", None),
        ("", None),
    ],
)
def test_a_code_is_read_as_people_type_it(typed: str, code: str | None) -> None:
    # AUTH-9
    assert parse_totp(typed) == code


def test_recovery_codes_are_ten_of_120_bits() -> None:
    # AUTH-9
    given = iter(bytes([number]) * 15 for number in range(10))
    codes = new_recovery_codes(lambda size: next(given) if size == 15 else b"")
    assert len(set(codes)) == 10
    assert codes[0] == "aaaa-aaaa-aaaa-aaaa-aaaa-aaaa"
    digests = set()
    for code in codes:
        plain = parse_recovery_code(code)
        assert plain is not None
        assert parse_recovery_code(f" {code.upper()} ") == plain
        assert parse_recovery_code(code.replace("-", " ")) == plain
        assert parse_recovery_code(code.replace("o", "0").replace("b", "8")) == plain
        digests.add(recovery_digest(plain))
    assert len(digests) == 10
    for typed in ("", "aaaa", codes[0] + "a", codes[0][:-1] + "9", codes[0][:-1] + "\u00e4"):
        assert parse_recovery_code(typed) is None


def test_a_secret_is_written_for_apps() -> None:
    # AUTH-9
    secret = new_totp_secret(lambda size: SECRET[:size])
    assert in_groups(secret_text(secret)) == "GEZD GNBV GY3T QOJQ GEZD GNBV GY3T QOJQ"
