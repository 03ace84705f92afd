"""How the documents of read models are written, by runners and by appends alike."""

from collections.abc import Mapping, Sequence

import msgspec

from actors.persistence import Cursor, Document
from storage.postgres.connecting.session import Connection

_PUT = """
INSERT INTO documents (collection, key, document, txid, position)
SELECT $1, d.key, d.document::jsonb, $4::xid8, $5
FROM unnest($2::text[], $3::text[]) AS d (key, document)
ON CONFLICT (collection, key) DO UPDATE SET document = excluded.document,
    txid = excluded.txid, position = excluded.position, updated_at = clock_timestamp()
"""


async def write(
    connection: Connection,
    collection: str,
    reached: Cursor,
    documents: Mapping[str, Document | None],
    statements: Sequence[tuple[str, tuple[object, ...]]],
) -> None:
    """Call this in a transaction: put and remove documents, then run the statements."""
    puts = [(key, one) for key, one in documents.items() if one is not None]
    if puts:
        texts = [msgspec.json.encode(one).decode() for _, one in puts]
        keys = [key for key, _ in puts]
        await connection.execute(_PUT, collection, keys, texts, reached.txid, reached.position)
    gone = [key for key, one in documents.items() if one is None]
    if gone:
        await connection.execute(
            "DELETE FROM documents WHERE collection = $1 AND key = ANY($2)", collection, gone
        )
    for statement, args in statements:
        await connection.execute(statement, *args)
