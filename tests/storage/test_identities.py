"""What a provider gave is kept sealed, and opens beside its own identity only."""

from dataclasses import replace

import msgspec

from actors.accounts import NOWHERE
from actors.accounts.ways.provider.identities import Linking
from actors.accounts.ways.provider.words import ProviderTokens
from actors.persistence import SealedFields
from actors.runtime import Secret
from storage.keyring import SubjectKeyring
from storage.postgres import Connection, Database, PostgresIdentities, PostgresSubjectKeys
from storage.testing.accounts.identities import linked, member_of, shown_of
from storage.testing.accounts.members import accounts_in_postgres

_SWAP = """
UPDATE provider_identities SET sealed = (
    SELECT o.sealed FROM provider_identities o WHERE o.subject <> provider_identities.subject)
"""


async def test_tokens_of_another_row_open_nothing(database: Database) -> None:
    # SEC-96: user and provider are associated data, also where one user has both rows
    kept = accounts_in_postgres(database)
    _, ada = await member_of(kept)
    _, bob = await member_of(kept, "bob")
    for first, second, name in ((ada, bob, "example"), (ada, ada, "other")):
        for member, subject, provider in ((first, f"1-{name}", "example"), (second, "2", name)):
            new = linked(member, shown_of(subject, token=f"of {subject}"), provider)
            assert await kept.identities.link(new, NOWHERE) is Linking.DONE
        assert await kept.identities.tokens(first.user_id, "example") is not None
        await database.run(_execute, _SWAP)
        assert await kept.identities.tokens(first.user_id, "example") is None
        assert await kept.identities.tokens(second.user_id, name) is None
        await database.run(_execute, "DELETE FROM provider_identities")


async def test_no_token_stands_in_the_database(database: Database) -> None:
    # SEC-96: a fresh nonce each time, 12 bytes, and the number of the key
    kept = accounts_in_postgres(database)
    _, ada = await member_of(kept)
    await kept.identities.link(linked(ada, shown_of(token="canary")), NOWHERE)
    first = await database.run(_sealed)
    before = await kept.identities.tokens(ada.user_id, "example")
    assert before is not None
    assert b"canary" not in first
    assert await kept.identities.renew_tokens(
        ada.user_id, "example", before, replace(before, access=Secret("canary 2"))
    )
    second = await database.run(_sealed)
    boxes = [msgspec.json.decode(one, type=SealedFields) for one in (first, second)]
    assert {tuple(box.keys) for box in boxes} == {(f"user:{ada.user_id}",)}
    nonces = {(box.fields["tokens"] or b"")[:12] for box in boxes}
    assert len(nonces) == 2


async def test_tokens_outlive_a_change_of_the_master_key(database: Database) -> None:
    # SEC-96: two keys
    kept = accounts_in_postgres(database)
    _, ada = await member_of(kept)
    await kept.identities.link(linked(ada, shown_of(token="kept")), NOWHERE)
    keys = PostgresSubjectKeys(database)
    ring = SubjectKeyring(keys, Secret(b"n" * 32), Secret(b"m" * 32))
    found = await PostgresIdentities(database, ring).tokens(ada.user_id, "example")
    assert found is not None
    assert isinstance(found, ProviderTokens)
    assert found.access.reveal() == "kept"
    assert await ring.rewrap() > 0
    alone = PostgresIdentities(database, SubjectKeyring(keys, Secret(b"n" * 32)))
    again = await alone.tokens(ada.user_id, "example")
    assert again is not None
    assert again.access.reveal() == "kept"


async def _execute(connection: Connection, statement: str) -> None:
    await connection.execute(statement)


async def _sealed(connection: Connection) -> bytes:
    sealed: bytes = await connection.fetchval("SELECT sealed FROM provider_identities")
    return sealed
