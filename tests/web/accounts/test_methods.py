"""Which ways to sign in there are: by the settings, and by what each of them needs."""

import pytest

from actors.accounts import Method
from web.accounts.methods import methods_of
from web.settings import BadSettings, read_settings

P, L = Method.PASSWORD, Method.MAGIC_LINK


@pytest.mark.parametrize(
    ("wanted", "has_mail", "has_link"),
    [
        (None, True, True),
        (None, False, False),
        ((P,), True, False),
        ((P, L), True, True),
        ((P, L), False, False),
        ((), True, False),
    ],
)
def test_a_way_is_on_when_it_is_wanted_and_can_be(
    wanted: tuple[Method, ...] | None, has_mail: bool, has_link: bool
) -> None:
    methods = methods_of(wanted, {L: has_mail})
    assert methods.has(L) is has_link
    assert methods.has(P)


def test_a_link_without_mail_is_refused_at_the_start() -> None:
    with pytest.raises(BadSettings) as caught:
        read_settings({"SIGN_IN_METHODS": "password,magic_link", "MAIL_SENDER": "off"})
    assert caught.value.problems == [
        "SIGN_IN_METHODS: magic_link needs mail; give SMTP_HOST and MAIL_FROM"
    ]
