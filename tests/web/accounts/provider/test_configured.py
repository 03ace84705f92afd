"""The settings of providers: what is given, what is built in, what is refused by its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.accounts import Method
from actors.accounts.ways.provider.words import Kind, Provider
from web.accounts.ways.provider.configured import WHATS, hosts_of
from web.settings import BadSettings, read_settings

DOCS = Path(__file__).parents[4] / "docs" / "reference" / "settings.md"
ID = "https://id.example.org"
OWN = {"OAUTH_MY_ID_CLIENT_ID": "us", "OAUTH_MY_ID_ISSUER": ID}
GITHUB = {"OAUTH_GITHUB_CLIENT_ID": "us", "OAUTH_GITHUB_CLIENT_SECRET": "s"}


def one(**given: str) -> Provider:
    (provider,) = read_settings(given).providers
    return provider


def test_a_provider_without_a_client_id_does_not_appear() -> None:
    # AUTH-5
    assert read_settings({}).providers == ()
    assert read_settings({"OAUTH_GOOGLE_CLIENT_SECRET": "s"}).providers == ()
    assert read_settings({"OAUTH_GOOGLE_CLIENT_ID": ""}).providers == ()


def test_google_and_github_are_built_in() -> None:
    # AUTH-5, AUTH-4, SEC-95
    google = one(OAUTH_GOOGLE_CLIENT_ID="us", OAUTH_GOOGLE_CLIENT_SECRET="s")
    assert (google.name, google.label, google.kind) == ("google", "Google", Kind.OIDC)
    assert google.needs_discovery
    assert google.method == "oauth_google"
    assert "oauth2.googleapis.com" in hosts_of(google)
    github = one(**GITHUB)
    assert (github.label, github.kind, github.needs_discovery) == ("GitHub", Kind.GITHUB, False)
    assert hosts_of(github) == {"github.com", "api.github.com"}
    assert "s" not in repr(github.client_secret)


def test_any_other_is_set_by_its_issuer(tmp_path: Path) -> None:
    # AUTH-5, SEC-125
    file = tmp_path / "secret"
    file.write_text("in a file\n")
    mine = one(**OWN, OAUTH_MY_ID_CLIENT_SECRET_FILE=str(file), OAUTH_MY_ID_SCOPES="openid email x")
    assert (mine.name, mine.label, mine.scopes) == ("my_id", "My Id", ("openid", "email", "x"))
    assert mine.client_secret is not None
    assert mine.client_secret.reveal() == "in a file"
    assert hosts_of(mine) == {"id.example.org"}
    whole = {f"OAUTH_MY_ID_{what}": f"{ID}/{what}" for what in WHATS if what.endswith("_URL")}
    assert not one(**OWN, **whole).needs_discovery
    both = read_settings({**OWN, **GITHUB}).providers
    assert [provider.name for provider in both] == ["github", "my_id"]


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"OAUTH_X_CLIENT_ID": "us"}, "OAUTH_X_ISSUER"),
        ({**OWN, "OAUTH_MY_ID_ISSUER": "http://id.example.org"}, "OAUTH_MY_ID_ISSUER"),
        ({**OWN, "OAUTH_MY_ID_ISSUER": "id.example.org"}, "OAUTH_MY_ID_ISSUER"),
        ({**OWN, "OAUTH_MY_ID_ISSUER": f"{ID}?a=b"}, "OAUTH_MY_ID_ISSUER"),
        ({**OWN, "OAUTH_MY_ID_ISSUER": "https://a:b@id.example.org"}, "OAUTH_MY_ID_ISSUER"),
        ({**OWN, "OAUTH_MY_ID_ISSUER": "https://[::1"}, "OAUTH_MY_ID_ISSUER"),
        ({**OWN, "OAUTH_MY_ID_TOKEN_URL": "ftp://id.example.org"}, "OAUTH_MY_ID_TOKEN_URL"),
        ({**OWN, "OAUTH_MY_ID_JWKS_URL": f"{ID}/keys#x"}, "OAUTH_MY_ID_JWKS_URL"),
        ({**OWN, "OAUTH_MY_ID_SCOPES": "email"}, "OAUTH_MY_ID_SCOPES"),
        ({**OWN, "OAUTH_MY_ID_SCOPES": 'openid "x"'}, "OAUTH_MY_ID_SCOPES"),
        ({**OWN, "OAUTH_MY_ID_CLIENT_ID": "u\ns"}, "OAUTH_MY_ID_CLIENT_ID"),
        ({**OWN, "OAUTH_MY_ID_CLIENT_SECRET": "x" * 513}, "OAUTH_MY_ID_CLIENT_SECRET"),
        ({**OWN, "OAUTH_MY_ID_CLIENT_SECRET_FILE": "/no/file"}, "OAUTH_MY_ID_CLIENT_SECRET"),
        ({**OWN, "OAUTH_MY_ID_CLIENTID": "us"}, "OAUTH_MY_ID_CLIENTID"),
        ({"OAUTH_my_CLIENT_ID": "us"}, "OAUTH_my_CLIENT_ID"),
        ({"OAUTH_GITHUB_CLIENT_ID": "us"}, "OAUTH_GITHUB_CLIENT_SECRET"),
        ({"SIGN_IN_METHODS": "password,oauth"}, "SIGN_IN_METHODS"),
    ],
)
def test_nonsense_is_refused_by_its_name(given: dict[str, str], named: str) -> None:
    # AUTH-5, SEC-95
    with pytest.raises(BadSettings) as raised:
        read_settings(given)
    assert all(line.startswith(f"{named}") for line in raised.value.problems)
    assert "x" * 513 not in str(raised.value)


def test_it_is_a_way_that_can_be_switched_off() -> None:
    assert read_settings({**OWN, "SIGN_IN_METHODS": "password,oauth"}).sign_in_methods == (
        Method.PASSWORD, Method.OAUTH,
    )  # fmt: skip


def test_the_page_of_settings_names_each() -> None:
    # AUTH-5
    text = DOCS.read_text()
    for what in WHATS:
        assert f"`OAUTH_<NAME>_{what}`" in text, what
