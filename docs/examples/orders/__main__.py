"""`python -m docs.examples.orders`: serve orders, or with `--order-id ID` print one's history."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence

import trio

from docs.examples.orders import PLAN
from docs.examples.orders.history import UnknownOrder, history
from storage.postgres import PostgresEventStore
from web.app import serve_site
from web.cli.opening import open_store

UNKNOWN = 3


def main(arguments: Sequence[str], environment: Mapping[str, str] = os.environ) -> int:
    """Call this with what was typed; gives the exit code."""
    parser = argparse.ArgumentParser(prog="orders", description=__doc__)
    parser.add_argument("--order-id", help="print what happened to this order, and end")
    given = parser.parse_args(arguments)
    if given.order_id is None:
        return serve_site(PLAN, environment)
    return trio.run(_print, given.order_id, environment)


async def _print(order_id: str, environment: Mapping[str, str]) -> int:
    async with open_store(environment) as database:
        try:
            async for line in history(PostgresEventStore(database), order_id):
                print(line)
        except UnknownOrder as error:
            print(error, file=sys.stderr)
            return UNKNOWN
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
