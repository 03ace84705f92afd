"""The page of the bank: accounts, forms, and the newest transfers, live."""

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from quart import Blueprint, redirect, request
from quart.typing import ResponseReturnValue

from actors.persistence import Refusal, execute
from actors.sagas import SagaExists
from docs.examples.banking.accounts import CloseAccount, Command, Deposit, OpenAccount, Withdraw
from docs.examples.banking.bank import INLINE, TOPIC, Bank, Office, Ports
from docs.examples.banking.ledger import accounts, transfer_name, transfers
from docs.examples.banking.transfers import MoveMoney
from supervision import ChildSpec, handle_of
from web.app import OwnSite, Panel, SitePlan, serve_site

NAME = re.compile(r"[a-z0-9]{1,20}")
# As `transfer_name` makes them.
TRANSFER = re.compile(r"\d{13}-[0-9a-f]{12}", re.ASCII)
AMOUNT = re.compile(r"(-?\d{1,12})(?:[.,](\d{2}))?", re.ASCII)
FILES = Path(__file__).parents[1] / "static"

PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Bank</title>
<meta name="viewport" content="width=device-width">
<link rel="stylesheet" href="{{ file_url('examples.css') }}">
<h1>Bank</h1><p role="status">{{ said }}</p>
{{ panel.bank }}
<h2>Open an account</h2>
<form method="post" action="/open">{{ csrf }}
<label>Name <input name="name" autocapitalize="off"></label>
<label>Holder <input name="holder"></label><button>Open</button></form>
<h2>Put in, take out, close</h2>
<form method="post" action="/change">{{ csrf }}
<label>Account <input name="name" autocapitalize="off"></label>
<label>Amount <input name="amount" inputmode="decimal"></label>
<button name="what" value="deposit">Deposit</button>
<button name="what" value="withdraw">Withdraw</button>
<button name="what" value="close">Close</button></form>
<h2>Transfer</h2>
<form method="post" action="/transfer">{{ csrf }}
<input type="hidden" name="transfer" value="{{ transfer }}">
<label>From <input name="source" autocapitalize="off"></label>
<label>To <input name="target" autocapitalize="off"></label>
<label>Amount <input name="amount" inputmode="decimal"></label>
<button>Transfer</button></form>{{ live }}</html>"""

ROWS = """<table><tr><th>Account</th><th>Holder</th><th class="cents">Balance</th></tr>
{% for one in accounts %}<tr><td>{{ one.name }}</td>
<td>{{ one.holder }}{% if not one.is_open %} (closed){% endif %}</td>
<td class="cents">{{ money(one.cents) }}</td></tr>{% endfor %}</table>
{% if transfers %}<h2>Newest transfers</h2><ul>{% for one in transfers %}
<li><span>{{ money(one.cents) }} from {{ one.source }} to {{ one.target }}: {{ one.status }}
{%- if one.reason %} ({{ one.reason }}){% endif %}</span></li>{% endfor %}</ul>{% endif %}"""


def cents_of(text: str) -> int | Refusal:
    """Call this for what a person wrote as an amount: 12, 12.50 or 12,50."""
    found = AMOUNT.fullmatch(text.strip())
    if found is None:
        return Refusal("amount", "Write an amount as 12 or 12.50.")
    cents = abs(int(found[1])) * 100 + int(found[2] or 0)
    return -cents if found[1].startswith("-") else cents


def money(cents: int) -> str:
    """Call this for an amount as a person reads it."""
    return f"{cents // 100:,}.{cents % 100:02d}"


def office_of(site: OwnSite) -> Office:
    """Call this for an office of a site's bank; it keeps nothing, and there may be several."""
    env = site.environment
    ports = Ports(site.store, site.beside, env, str(env.ids.new_id()))
    # At each use: a bank that was restarted is another.
    return Office(ports, lambda: handle_of(Bank, site.ref("bank", Bank)))


def tree(site: OwnSite) -> list[ChildSpec]:
    return [ChildSpec("bank", partial(Bank, office_of(site)), name="bank", type="supervisor")]


def panels(site: OwnSite) -> list[Panel]:
    async def shown() -> str:
        rows = site.beside.projections
        found = {"accounts": await accounts(rows), "transfers": await transfers(rows)}
        return site.render(ROWS, money=money, **found)

    return [Panel("bank", topic=TOPIC, render=shown)]


def pages(site: OwnSite) -> Blueprint:
    routes, office = Blueprint("bank", __name__), office_of(site)

    async def page(said: str = "", status: int = 200) -> ResponseReturnValue:
        # A form that is sent twice asks for one transfer.
        env = site.environment
        transfer = transfer_name(env.clock.now(), env.ids.new_id())
        return await site.page(PAGE, panels=["bank"], status=status, said=said, transfer=transfer)

    async def told(refused: object) -> ResponseReturnValue:
        if isinstance(refused, Refusal):
            return await page(refused.message, 422)
        return redirect("/", 303)

    async def carry_out(name: str, command: Command | Refusal) -> ResponseReturnValue:
        if isinstance(command, Refusal):
            return await told(command)
        if NAME.fullmatch(name) is None:
            return await page("A name is one to twenty of a-z and 0-9.", 422)
        return await told(await execute(office.account(name), command))

    @routes.get("/")
    async def home() -> ResponseReturnValue:
        return await page()

    @routes.post("/open")
    async def open_account() -> ResponseReturnValue:
        form = await request.form
        return await carry_out(form.get("name", ""), OpenAccount(form.get("holder", "")))

    @routes.post("/change")
    async def change() -> ResponseReturnValue:
        form = await request.form
        return await carry_out(
            form.get("name", ""), change_of(form.get("what", ""), form.get("amount", ""))
        )

    @routes.post("/transfer")
    async def transfer() -> ResponseReturnValue:
        asked = transfer_of(await request.form)
        if isinstance(asked, Refusal):
            return await told(asked)
        try:
            return await told(await office.transfer(asked))
        except SagaExists:
            return await page("This form was sent before, with other words.", 422)

    return routes


def change_of(what: str, amount: str) -> Command | Refusal:
    """Call this for what is asked of one account."""
    if what == "close":
        return CloseAccount()
    cents = cents_of(amount)
    match what, cents:
        case _, Refusal():
            return cents
        case "deposit", int():
            return Deposit(cents)
        case "withdraw", int():
            return Withdraw(cents)
    return Refusal("what", "An account takes a deposit, a withdrawal or its end.")


def transfer_of(form: Mapping[str, str]) -> MoveMoney | Refusal:
    """Call this for the transfer that a form asks for."""
    name, source, target = (form.get(one, "") for one in ("transfer", "source", "target"))
    cents = cents_of(form.get("amount", ""))
    if isinstance(cents, Refusal):
        return cents
    if TRANSFER.fullmatch(name) is None:
        return Refusal("transfer", "This form is too old; it was sent from another page.")
    if NAME.fullmatch(source) is None or NAME.fullmatch(target) is None:
        return Refusal("unknown", "There is no such account.")
    return MoveMoney(name, source, target, cents)


PLAN = SitePlan(name="bank", tree=tree, pages=pages, panels=panels, inline=INLINE, files=FILES)
if __name__ == "__main__":
    raise SystemExit(serve_site(PLAN))
