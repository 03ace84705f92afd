"""`greenroom example NAME`: one of the worked examples, until a signal or its own end.

The examples lie in `docs/examples`, a module each, and come with an installed package as all of
`docs` does. Most are sites: their module has a `PLAN`. A program runs to its own end. One that is
added has a row in `EXAMPLES` and nothing else here.

Rule 1: in memory unless told otherwise; then in a folder of its own. An example never writes into
the data of the site that is run from the same folder, unless both are given one server.
"""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from runpy import run_module

from web.cli.answering import Teller, answer
from web.observability import Code, CommandFailed, complain
from web.settings import Settings

FOLDER = "docs.examples"


@dataclass(frozen=True, slots=True)
class Example:
    """One example: the module it is in, in a few words what it shows, and which kind it is."""

    module: str
    shows: str
    is_site: bool = True
    # Where its clients look for it, if not where every site is.
    port: int | None = None


EXAMPLES: Mapping[str, Example] = {
    "first-actor": Example(
        "first_actor", "an actor crashes, its supervisor restarts it", is_site=False
    ),
    "counter": Example(
        "counter", "a reducer and the actor around it, in sixty lines", is_site=False
    ),
    "counter-page": Example("counter_page", "the same counter on a page, in step in every window"),
    "crawler": Example(
        "crawler", "three levels of supervision, a pool, a rate limiter", is_site=False
    ),
    "todo": Example("todo", "a list that two windows see in step, kept as events"),
    "banking": Example("banking.site", "accounts, and transfers that are whole or taken back"),
    "votes": Example("own_site", "a page with a live panel, and a topic for programs"),
    "parcels": Example("parcels", "an HTTP API: answers, refusals, keys, pages"),
    "orders": Example("orders", "an HTTP and WebSocket API: orders, their list, their history"),
    "checkout": Example(
        "checkout", "a saga: all of it, or everything is taken back", is_site=False
    ),
    "checkout-page": Example(
        "checkout_page", "the same saga on a page, to be let fail and crashed"
    ),
    "ticketing": Example(
        "ticketing.site", "a box office: an HTTP API and pages that sell seats", port=8080
    ),
}


def command(parsed: argparse.Namespace, environment: Mapping[str, str]) -> int:
    """Call this to run an example, or list them; returns the exit code."""
    try:
        if parsed.list or parsed.name is None:
            return _list(is_json=parsed.json)
        if parsed.order_id is not None:
            return _history(parsed, environment)
        return _run(parsed.name, find(parsed.name), parsed, environment)
    except CommandFailed as failed:
        complain(f"greenroom: {failed}")
        return failed.code


def find(name: str) -> Example:
    """Call this for an example; raises `CommandFailed` that names the nearest ones."""
    found = EXAMPLES.get(name)
    if found is None:
        near = get_close_matches(name, EXAMPLES) or list(EXAMPLES)
        raise CommandFailed(
            Code.UNKNOWN, f"there is no example {name!r}", f"There is {', '.join(near)}"
        )
    return found


def settings_of(
    name: str, parsed: argparse.Namespace, environment: Mapping[str, str]
) -> dict[str, str]:
    """Call this for the environment of an example: its own port and folder."""
    own = dict(environment)
    usual = EXAMPLES[name].port
    if parsed.port is not None:
        own["PORT"] = str(parsed.port)
    elif usual is not None:
        own.setdefault("PORT", str(usual))
    if "STATE_DIR" not in own:
        from web.app import EXAMPLES_FOLDER

        own["STATE_DIR"] = str(Settings().state_dir / EXAMPLES_FOLDER / name)
    return own


def _list(*, is_json: bool) -> int:
    teller = Teller(is_json=is_json)
    rows = [{"name": name, "shows": example.shows} for name, example in EXAMPLES.items()]
    teller.rows(rows, "there is none")
    teller.write()
    return Code.DONE


def _history(parsed: argparse.Namespace, environment: Mapping[str, str]) -> int:
    if parsed.name != "orders" or parsed.store != "postgres":
        raise CommandFailed(
            Code.USAGE, "--order-id is for example orders --store postgres; nothing was read"
        )
    history = import_module(f"{FOLDER}.orders.history")
    asked = argparse.Namespace(order_id=parsed.order_id, json=parsed.json, debug=False)
    return answer(history.command, asked, settings_of(parsed.name, parsed, environment))


def _run(
    name: str, example: Example, parsed: argparse.Namespace, environment: Mapping[str, str]
) -> int:
    if parsed.database_url is not None and parsed.store != "postgres":
        raise CommandFailed(
            Code.USAGE, "--database-url is for --store postgres; nothing was started"
        )
    run = _run_site if example.is_site else _run_program
    module = f"{FOLDER}.{example.module}"
    if find_spec(module) is None:
        raise CommandFailed(
            Code.UNKNOWN, f"{Path(*module.split('.'))}.py did not come with this program"
        )
    return run(name, module, parsed, environment)


def _run_site(
    name: str, module: str, parsed: argparse.Namespace, environment: Mapping[str, str]
) -> int:
    from storage.memory import MemoryDatabase
    from web.app import SitePlan, serve_site

    plan = import_module(module).PLAN
    assert isinstance(plan, SitePlan), module
    store = MemoryDatabase() if parsed.store == "memory" else None
    return serve_site(plan, settings_of(name, parsed, environment), store=store)


def _run_program(name: str, module: str, parsed: argparse.Namespace, _: Mapping[str, str]) -> int:
    if parsed.store != "memory" or parsed.port is not None:
        raise CommandFailed(
            Code.USAGE,
            f"the example {name} is a program without pages or data; nothing was started",
            "Run it without --store and --port" + _or_its_page(name),
        )
    run_module(module, run_name="__main__", alter_sys=True)
    return Code.DONE


def _or_its_page(name: str) -> str:
    page = f"{name}-page"
    return f", or example {page}, which has both" if page in EXAMPLES else ""
