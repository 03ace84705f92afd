"""The address of a database as people and providers hand it out, made fit for the driver.

An address is often copied from a provider's page or from another program, and then carries
parameters that only libpq knows. The driver sends whatever it does not know to the server, which
refuses the session for it. Here each of libpq's parameters has its answer: it goes through, it is
left out because nothing is lost by that, or the address is refused with the parameter's name.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote_plus

from storage.errors import StoreRejected

# Of a failover's two servers only this one can do the work (libpq's word for it).
WRITABLE = "read-write"

# What libpq does for itself and the driver does in its own way, or not at all, with nothing lost.
# `channel_binding` too: providers put it beside `sslmode=require`, and whoever must know the
# server for certain says `sslmode=verify-full`, which the driver obeys.
_LEFT_OUT = frozenset(
    {
        "application_name",
        "channel_binding",
        "client_encoding",
        "connect_timeout",
        "fallback_application_name",
        "gssdelegation",
        "keepalives",
        "keepalives_count",
        "keepalives_idle",
        "keepalives_interval",
        "load_balance_hosts",
        "max_protocol_version",
        "min_protocol_version",
        "sslcertmode",
        "sslcompression",
        "sslsni",
        "tcp_user_timeout",
    }
)

# Left out, these would let in what the operator wanted kept out, or reach another server.
_REFUSED = frozenset(
    {
        "hostaddr",
        "oauth_client_id",
        "oauth_client_secret",
        "oauth_issuer",
        "oauth_scope",
        "replication",
        "require_auth",
        "requirepeer",
        "scram_client_key",
        "scram_server_key",
        "sslcrldir",
    }
)

# Harmless as long as they only say what the driver does anyway.
_ONLY_AS = {"gssencmode": {"disable", "prefer", "allow"}}

# The variables of libpq that the driver reads where the address is silent.
_VARIABLES = (
    "PGDATABASE PGHOST PGPASSFILE PGPASSWORD PGPORT PGSERVICE PGSERVICEFILE PGSSLCERT PGSSLCRL"
    " PGSSLKEY PGSSLMAXPROTOCOLVERSION PGSSLMINPROTOCOLVERSION PGSSLMODE PGSSLNEGOTIATION"
    " PGSSLROOTCERT PGTARGETSESSIONATTRS PGUSER"
).split()


@dataclass(frozen=True, slots=True)
class Address:
    """What the driver is given. `text` may hold a password: never shown, never kept."""

    text: str
    # None when the address, or the environment, names the kind of server itself.
    session_attrs: str | None


def read_address(url: str, environment: Mapping[str, str] | None = None) -> Address:
    """Call this before connecting; raises `StoreRejected` with the parameter nobody can meet."""
    environment = os.environ if environment is None else environment
    kept, names = [], set()
    # By hand, so that everything else stays as it was written, passwords above all.
    base, _, query = url.partition("?")
    for part in filter(None, query.split("&")):
        name, _, value = (unquote_plus(piece) for piece in part.partition("="))
        if name in _REFUSED or value not in _ONLY_AS.get(name, {value}):
            raise StoreRejected(
                f"its parameter {name} asks for what our driver cannot do; take it out"
            )
        if name not in _LEFT_OUT and name not in _ONLY_AS:
            kept.append(part)
            names.add(name)
    is_named = "target_session_attrs" in names or "PGTARGETSESSIONATTRS" in environment
    text = "?".join([base, "&".join(kept)] if kept else [base])
    return Address(text, None if is_named else WRITABLE)


def named_in_environment(environment: Mapping[str, str] | None = None) -> str:
    """Call this for an error: the libpq variables that are set and have a say, or nothing."""
    environment = os.environ if environment is None else environment
    found = [name for name in _VARIABLES if environment.get(name)]
    return f" (and {', '.join(found)}, which the environment sets)" if found else ""
