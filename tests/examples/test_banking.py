"""The banking example: what an account decides, how transfers end, and that no money is lost."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from actors.persistence import Refusal, StreamId, ask_state, execute
from actors.sagas import Outcome, SagaCommand, SagaId, Status
from actors.testing import ProjectionTest, given
from docs.examples.banking import accounts as words
from docs.examples.banking.accounts import (
    CENTS_MAX,
    Account,
    AccountClosed,
    AccountOpened,
    Accounts,
    CloseAccount,
    Command,
    Credit,
    Debit,
    Deposit,
    Happened,
    MoneyDeposited,
    MoneyWithdrawn,
    OpenAccount,
    TakeBack,
    TransferRefused,
    TransferVoided,
    UndoDebit,
    Withdraw,
)
from docs.examples.banking.bank import Office
from docs.examples.banking.ledger import Ledger, accounts, transfers
from docs.examples.banking.site import cents_of, money
from docs.examples.banking.transfers import MoveMoney, Transfer, status_of, transfer_refusal
from storage.postgres import Database
from tests.examples.banks import (
    Books,
    Storm,
    World,
    all_ended,
    begin_all,
    books,
    memory_world,
    postgres_world,
)
from tests.journeys.site_process import ExampleProcess
from tests.journeys.visitor import Answer, Visitor
from tests.patience import PATIENCE_S
from tests.web.cli.commanding import fetch

# Of all that engines have in common the memory's thousand tell; the long form is in `make soak`.
TRANSFERS = int(os.environ.get("TRANSFERS", "250"))
OPEN = AccountOpened("Ann")
TEN = MoneyDeposited(10)
OUT, IN = MoneyWithdrawn(4, "t"), MoneyDeposited(4, "t")


@pytest.mark.parametrize(
    ("before", "command", "events"),
    [
        ([], OpenAccount(" Ann "), [OPEN]),
        ([OPEN], Deposit(10), [TEN]),
        ([OPEN, TEN], Withdraw(10), [MoneyWithdrawn(10)]),
        ([OPEN], CloseAccount(), [AccountClosed()]),
        ([OPEN, TEN], Debit("t", "a", 4), [OUT]),
        ([OPEN], Credit("t", "a", 4), [IN]),
        # What comes twice is done once, also when the second comes to a closed account.
        ([OPEN, TEN, OUT], Debit("t", "a", 4), []),
        ([OPEN, IN], Credit("t", "a", 4), []),
        ([OPEN, IN, MoneyWithdrawn(4), AccountClosed()], Credit("t", "a", 4), []),
        # Taken back once, also from or to a closed account.
        ([OPEN, TEN, OUT], UndoDebit("t", "a", 4), [IN]),
        ([OPEN, MoneyDeposited(4), OUT, AccountClosed()], UndoDebit("t", "a", 4), [IN]),
        ([OPEN, TEN, OUT, IN], UndoDebit("t", "a", 4), []),
        ([OPEN, IN], TakeBack("t", "a", 4), [OUT]),
        ([OPEN, IN, OUT], TakeBack("t", "a", 4), []),
        # An undo that is there first makes the command behind it a refusal.
        ([], UndoDebit("t", "a", 4), [TransferVoided("t")]),
        ([OPEN], TakeBack("t", "a", 4), [TransferVoided("t")]),
        ([OPEN, TransferVoided("t")], UndoDebit("t", "a", 4), []),
    ],
)
def test_what_an_account_does(
    before: list[Happened], command: Command, events: list[Happened]
) -> None:  # EX-3
    given(Accounts(), *before).when(command).then(*events)


@pytest.mark.parametrize(
    ("before", "command", "code"),
    [
        ([OPEN], OpenAccount("Bob"), "exists"),
        ([OPEN, AccountClosed()], OpenAccount("Bob"), "exists"),
        ([], OpenAccount("  "), "holder"),
        ([], OpenAccount("x" * (words.HOLDER_CHARS_MAX + 1)), "holder"),
        ([], Deposit(1), "unknown"),
        ([], Withdraw(1), "unknown"),
        ([], CloseAccount(), "unknown"),
        ([OPEN], Deposit(0), "amount"),
        ([OPEN], Deposit(-1), "amount"),
        ([OPEN], Deposit(CENTS_MAX + 1), "amount"),
        ([OPEN, TEN], Withdraw(0), "amount"),
        ([OPEN, TEN], Withdraw(-1), "amount"),
        ([OPEN, TEN], Withdraw(11), "funds"),
        ([OPEN, AccountClosed()], Deposit(1), "closed"),
        ([OPEN, AccountClosed()], Withdraw(1), "closed"),
        ([OPEN, AccountClosed()], CloseAccount(), "closed"),
        ([OPEN, TEN], CloseAccount(), "not-empty"),
        ([OPEN, TEN, OUT, IN], Debit("t", "a", 4), "undone"),
        ([OPEN, TEN, TransferVoided("t")], Debit("t", "a", 4), "undone"),
        ([OPEN, IN, MoneyWithdrawn(2)], TakeBack("t", "a", 4), "funds"),
    ],
)
def test_what_is_refused(before: list[Happened], command: Command, code: str) -> None:  # EX-3
    given(Accounts(), *before).when(command).then_refused(code)


@pytest.mark.parametrize(
    ("before", "command", "reason"),
    [
        ([OPEN, TEN], Debit("t", "a", 11), "There is too little money in the account."),
        ([], Debit("t", "a", 1), "There is no such account."),
        ([], Credit("t", "a", 1), "There is no such account."),
        ([OPEN, AccountClosed()], Credit("t", "a", 1), "The account is closed."),
        ([OPEN, TEN], Debit("t", "a", 0), "An amount is more than nothing."),
    ],
)
def test_a_part_of_a_transfer_that_was_refused_stays_so(
    before: list[Happened], command: Command, reason: str
) -> None:  # EX-3
    """A command comes again after a crash, when its transfer is over."""
    refused = TransferRefused("t", reason)
    given(Accounts(), *before).when(command).then(refused)
    rich = [*before, refused, OPEN, MoneyDeposited(100)]
    given(Accounts(), *rich).when(command).then_reply(refused)
    for undo in (UndoDebit("t", "a", 1), TakeBack("t", "a", 1)):
        given(Accounts(), *rich).when(undo).then()


def test_the_worked_figures() -> None:  # EX-3
    source: list[Happened] = [OPEN, MoneyDeposited(1000), MoneyDeposited(200)]
    given(Accounts(), *source).when(Debit("t", "a", 300)).then_state(
        Account("Ann", 900, is_open=True, transfers={"t": "debited"})
    )
    target: list[Happened] = [OPEN, MoneyDeposited(500), MoneyWithdrawn(50)]
    given(Accounts(), *target).when(Credit("t", "b", 300)).then_state(
        Account("Ann", 750, is_open=True, transfers={"t": "credited"})
    )


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        (MoveMoney("t", "a", "a", 5), "same-account"),
        (MoveMoney("t", "a", "b", 0), "amount"),
        (MoveMoney("t", "a", "b", -5), "amount"),
    ],
)
async def test_a_transfer_that_is_refused_begins_nothing(asked: MoveMoney, code: str) -> None:
    # EX-3
    refused = transfer_refusal(asked)
    assert refused is not None
    assert refused.code == code

    async def body(office: Office) -> None:
        assert await office.transfer(asked) == refused

    world = memory_world()
    assert await world.live(Storm(random.Random(0)), body)
    assert (await world.store.count()).events == 0


def test_the_rows_of_the_page() -> None:  # EX-3, TEST-6
    (
        ProjectionTest(Ledger())
        .given(OPEN, MoneyDeposited(1200), MoneyWithdrawn(300, "t"), stream="account-ann")
        .given(OPEN, AccountClosed(), stream="account-bob")
        .then_row("account/ann", holder="Ann", cents=900, is_open=True)
        .then_row("account/bob", cents=0, is_open=False)
        .then_count(2)
    )


# In actors.


async def open_accounts(office: Office, *names: str, cents: int) -> None:
    for name in names:
        for command in (OpenAccount(f"holder of {name}"), Deposit(cents)):
            done = await execute(office.account(name), command)
            assert not isinstance(done, Refusal)


async def ended(office: Office, saga: SagaId | Refusal) -> str:
    assert isinstance(saga, SagaId)
    while not (state := await office.sagas.query(saga)).is_over:
        assert state.status is not Status.STUCK
        await trio.sleep(0.05)
    return status_of(state)


@pytest.mark.parametrize(
    ("target", "cents", "status", "reason"),
    [
        ("b", 300, "completed", ""),
        ("b", 1300, "failed", "debit: There is too little money in the account."),
        ("nobody", 300, "compensated", "credit: There is no such account."),
        ("shut", 300, "compensated", "credit: The account is closed."),
    ],
)
async def test_how_a_transfer_ends(
    autojump_clock: MockClock, target: str, cents: int, status: str, reason: str
) -> None:  # EX-3
    world = memory_world()

    async def body(office: Office) -> None:
        await open_accounts(office, "a", cents=1200)
        await open_accounts(office, "b", cents=450)
        await execute(office.account("shut"), OpenAccount("Eve"))
        await execute(office.account("shut"), CloseAccount())
        saga = await office.transfer(MoveMoney("t", "a", target, cents))
        assert await ended(office, saga) == status
        rows = office.ports.beside.projections
        (row,) = await transfers(rows)
        assert (row.status, row.reason) == (status, reason)
        balances = {one.name: one.cents for one in await accounts(rows)}
        moved = status == "completed"
        assert balances == {"a": 900 if moved else 1200, "b": 750 if moved else 450, "shut": 0}

    assert await world.live(Storm(random.Random(0)), body)
    assert (await books(world.store)).total == 1650


async def test_a_credit_that_nobody_answers_is_taken_back_wherever_it_is(
    autojump_clock: MockClock,
) -> None:  # EX-3
    """The command that is late is dropped or refused; the money is where it was."""
    world, late = memory_world(), list[SagaCommand]()

    async def body(office: Office) -> None:
        await open_accounts(office, "a", "b", cents=1000)
        serve = office.sagas._participants["accounts"]

        async def slow(command: SagaCommand) -> Outcome | None:
            if isinstance(command.opened(), Credit):
                late.append(command)
                return None
            return await serve(command)

        office.sagas._participants["accounts"] = slow
        saga = await office.transfer(MoveMoney("t", "a", "b", 300))
        assert await ended(office, saga) == "compensated"
        outcome = await serve(late[0])
        assert repr(outcome) == "Refused(reason='The transfer was taken back.')"

    assert await world.live(Storm(random.Random(0)), body)
    assert (await books(world.store)).balances == {"account-a": 1000, "account-b": 1000}


def random_transfers(chance: random.Random, count: int, names: list[str]) -> list[MoveMoney]:
    """Some cannot be paid, some go to an account that is closed, or to none."""
    asked = []
    for number in range(count):
        source, target = chance.sample(names, 2)
        target = chance.choices([target, "shut", "nobody"], [90, 5, 5])[0]
        asked.append(MoveMoney(f"t{number}", source, target, chance.randint(1, 1000)))
    return asked


NAMES = [f"a{number}" for number in range(10)]
EACH = 10_000


async def begin_world(world: World) -> None:
    async def body(office: Office) -> None:
        await open_accounts(office, *NAMES, cents=EACH)
        await execute(office.account("shut"), OpenAccount("Eve"))
        await execute(office.account("shut"), CloseAccount())

    assert await world.live(Storm(random.Random(0)), body)


async def weather(world: World, count: int, seed: int) -> tuple[Books, dict[str, Status], int]:
    """Let so many transfers happen while actors crash and processes die, and read the books."""
    chance = random.Random(seed)
    asked = random_transfers(chance, count, NAMES)
    await begin_world(world)
    found: dict[str, Status] = {}
    crashes = 0

    async def body(office: Office) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(begin_all, office, asked)
            found.update(await all_ended(office, count))

    for dies_at in (count // 2, count, count, 0):
        storm = Storm(chance, crash_share=0.02, dies_at=dies_at)
        is_whole = await world.live(storm, body)
        crashes += storm.crashes
        assert is_whole == (dies_at == 0)
        # Also in the middle, with money on its way.
        assert (await books(world.store)).total == EACH * len(NAMES)
    return await books(world.store), found, crashes


def check_weathered(found: Books, statuses: dict[str, Status], crashes: int) -> None:
    assert found.total == sum(found.balances.values()) == EACH * len(NAMES)
    assert set(found.in_flight.values()) == {0}
    counts = {status: list(statuses.values()).count(status) for status in set(statuses.values())}
    assert counts[Status.COMPLETED] > 0
    assert counts[Status.FAILED] > 0
    assert crashes > 0


@pytest.mark.slow
@pytest.mark.long
async def test_no_money_is_made_or_lost_in_memory(autojump_clock: MockClock) -> None:  # EX-3
    check_weathered(*await weather(memory_world(), 1000, seed=1))


@pytest.mark.slow
@pytest.mark.long
async def test_no_money_is_made_or_lost_on_postgresql(database: Database) -> None:  # EX-3
    # Of 1000 half a minute of work by itself: others' load may make it many times that.
    with trio.fail_after(4 * PATIENCE_S):
        check_weathered(*await weather(postgres_world(database), TRANSFERS, seed=2))


def test_books_that_do_not_balance_are_found() -> None:
    with pytest.raises(AssertionError, match="gave more than it took"):
        Books().take("account-a", MoneyDeposited(5, "t"))
    twice = Books()
    twice.take("account-a", MoneyDeposited(5))
    with pytest.raises(AssertionError, match="owes money"):
        twice.take("account-a", MoneyWithdrawn(6, "t"))


# The page.


@pytest.mark.parametrize(
    ("text", "cents"),
    [("12", 1200), (" 12.50 ", 1250), ("0,05", 5), ("-3", -300), ("-0.50", -50), ("0", 0)],
)
def test_an_amount_is_read_as_a_person_writes_it(text: str, cents: int) -> None:
    assert cents_of(text) == cents


@pytest.mark.parametrize("text", ["", "x", "1.5", "1e3", "٣", "1" * 13, "1.234", "--1", "1 000"])
def test_what_is_no_amount_is_told(text: str) -> None:
    assert isinstance(cents_of(text), Refusal)


def test_an_amount_is_shown_as_a_person_reads_it() -> None:
    assert (money(5), money(123_456)) == ("0.05", "1,234.56")


@pytest.fixture(params=["memory", "postgres"])
def bank(
    request: pytest.FixtureRequest, tmp_path: Path, database_url: str
) -> Iterator[ExampleProcess]:
    server = {"DATABASE_URL": database_url} if request.param == "postgres" else {}
    running = ExampleProcess("banking", request.param, tmp_path / "state", **server)
    yield running
    running.end()


def shows(visitor: Visitor, told: str) -> None:
    """Wait for it on the page's own stream, as an open page does."""
    found = re.search(r"@get\('([^']+)'", visitor.get("/").text)
    assert found
    with visitor.open_stream_at(found[1].replace("&amp;", "&")) as stream:
        stream.read_until(told.encode())


@pytest.mark.slow
def test_money_moves_by_forms_and_what_cannot_be_is_told(bank: ExampleProcess) -> None:  # EX-3
    visitor = Visitor(bank.url)

    def send(path: str, **fields: str) -> Answer:
        return visitor.form(path, fields)

    for name, holder in (("ann", "Ann <Lee>"), ("bob", "Bob")):
        assert send("/open", name=name, holder=holder).status == 303
    assert send("/change", name="ann", amount="12.00", what="deposit").status == 303
    assert send("/change", name="ann", amount="2.50", what="withdraw").status == 303
    moved = {"transfer": "0000000000001-0123456789ab", "source": "ann", "target": "bob"}
    for _ in range(2):  # a form that is sent twice
        assert send("/transfer", **moved, amount="3").status == 303
    shows(visitor, "3.00 from ann to bob: completed")
    page = visitor.get("/").text
    assert "Ann &lt;Lee&gt;" in page
    assert '<td class="cents">6.50</td>' in page
    assert '<td class="cents">3.00</td>' in page

    lost = {**moved, "transfer": "0000000000002-0123456789ab", "target": "nobody"}
    assert send("/transfer", **lost, amount="1").status == 303
    shows(visitor, "1.00 from ann to nobody: compensated (credit: There is no such account.)")
    for path, fields, told in (
        ("/open", {"name": "ann", "holder": "Eve"}, "There is an account of this name already."),
        ("/open", {"name": "A B", "holder": "Eve"}, "A name is one to twenty"),
        ("/open", {}, "A name is one to twenty"),
        ("/change", {"name": "ann", "amount": "x", "what": "deposit"}, "Write an amount as"),
        ("/change", {"name": "ann", "amount": "-1", "what": "deposit"}, "more than nothing"),
        ("/change", {"name": "ann", "amount": "100", "what": "withdraw"}, "too little money"),
        ("/change", {"name": "ann", "amount": "1", "what": "steal"}, "takes a deposit"),
        ("/change", {"name": "ann", "what": "close"}, "There is money in the account."),
        ("/transfer", {**moved, "amount": "4"}, "sent before, with other words"),
        ("/transfer", {**moved, "target": "ann", "amount": "4"}, "between two accounts"),
        ("/transfer", {**moved, "transfer": "x", "amount": "4"}, "This form is too old"),
        ("/transfer", {**moved, "source": "A B", "amount": "4"}, "There is no such account."),
        ("/transfer", {}, "Write an amount as"),
    ):
        refused = visitor.form(path, fields)
        assert (refused.status, told in refused.text) == (422, True), (path, fields, refused.text)


_LEASES_END = "UPDATE outbox_leases SET lease_until = clock_timestamp()"


@pytest.mark.slow
def test_what_was_moved_survives_kill_9(tmp_path: Path, database_url: str) -> None:  # EX-3
    bank = ExampleProcess("banking", "postgres", tmp_path / "state", DATABASE_URL=database_url)
    try:
        visitor = Visitor(bank.url)
        for name in ("ann", "bob"):
            visitor.form("/open", {"name": name, "holder": name})
        visitor.form("/change", {"name": "ann", "amount": "9", "what": "deposit"})
        form = {"transfer": "0000000000001-0123456789ab", "source": "ann", "target": "bob"}
        assert visitor.form("/transfer", {**form, "amount": "4"}).status == 303
        # In whatever moment of the transfer: it goes on in the next process.
        bank.kill()
        # It is later: nobody has what the killed one had the sending of.
        fetch(database_url, _LEASES_END)
        bank.restart()
        shows(Visitor(bank.url), "4.00 from ann to bob: completed")
        assert bank.stop() == 0
    finally:
        bank.end()


def test_the_saga_has_its_name() -> None:
    """Streams and rows are found by it: another name is another bank."""
    assert Transfer.definition().kind == "transfer"
    assert StreamId("transfer-t") == SagaId.of("transfer", "t").stream


async def test_an_account_keeps_its_state_across_a_crash(autojump_clock: MockClock) -> None:
    async def body(office: Office) -> None:
        await open_accounts(office, "a", cents=5)
        office.account("a").tell(None)  # type: ignore[arg-type]  # reason: nonsense, on purpose
        _, state = await ask_state(office.account("a"))
        assert isinstance(state, Account)
        assert state.cents == 5

    assert await memory_world().live(Storm(random.Random(0)), body)
