"""`greenroom saga` beside a program that runs sagas, on a real database."""

import pytest
import trio

from actors.sagas import Refused, SagaCommand, SagaId, Status, Succeeded
from docs.examples.checkout import ended
from storage.postgres import Database, system_user
from tests.actors.sagas.checkouts import Basket, Paid, Placed, Purchase
from tests.actors.sagas.desks import Player, open_desk
from tests.actors.sagas.shops import postgres_world
from tests.patience import PATIENCE_S
from tests.web.cli.commanding import Commands, fetch, on

CLASSES = ("--import", "tests.actors.sagas.checkouts")
STUCK, DONE = "purchase-stuck", "purchase-done"


@pytest.fixture
def run(database_url: str, capsys: pytest.CaptureFixture[str]) -> Commands:
    return Commands(database_url, capsys)


def _player(*, is_open: bool) -> Player:
    def reserve(command: SagaCommand) -> Succeeded | Refused:
        return Refused("sold out") if command.body["order_id"] == "stuck" else Succeeded()

    def refund(command: SagaCommand) -> Succeeded | Refused:
        return Succeeded() if is_open else Refused("the bank is closed")

    return Player(
        {
            "place": lambda _: Succeeded(Placed(1)),
            "pay": lambda _: Succeeded(Paid("secret number")),
            "reserve": reserve,
            "undo pay": refund,
        }
    )


async def _begin(database: Database) -> None:
    """One that went well, and one that cannot be undone."""
    with trio.fail_after(PATIENCE_S):
        async with open_desk(postgres_world(database), _player(is_open=False), Purchase) as desk:
            for name, status in (("done", Status.COMPLETED), ("stuck", Status.STUCK)):
                saga = await desk.sagas.start(Purchase, Basket(name, "ann", 5), name=name)
                assert await ended(desk.sagas, saga) is status
            theirs = await desk.sagas.start(Purchase, Basket("done", "bob", 5), tenant="blue")
            await ended(desk.sagas, theirs)


async def _go_on(database: Database) -> None:
    """The program runs again, and carries out what was decided meanwhile."""
    with trio.fail_after(PATIENCE_S):
        async with open_desk(postgres_world(database), _player(is_open=True), Purchase) as desk:
            assert await ended(desk.sagas, SagaId.parse(STUCK)) is Status.FAILED


@pytest.mark.slow
def test_sagas_are_seen_without_their_classes(database_url: str, run: Commands) -> None:
    # SAGA-13, SAGA-14, CLI-20
    assert run("saga", "list") == 0
    assert run.out == "no such saga\n"
    on(database_url, _begin)
    rows = run.json("saga", "list")
    assert [(row["saga"], row["status"], row["step"]) for row in rows] == [
        (STUCK, "stuck", "pay"),
        (DONE, "completed", ""),
    ]
    assert [row["saga"] for row in run.json("saga", "list", "--status", "completed")] == [DONE]
    assert run.json("saga", "list", "--kind", "other") == []
    assert run.json("saga", "list", "--older-than", "3600") == []
    (theirs,) = run.json("saga", "list", "--tenant", "blue")
    assert run.json("saga", "list", "--tenant", "green") == []
    assert run.one("saga", "show", str(theirs["saga"]))["status"] == "completed"
    assert run("saga", "list", "--tenant", "a b") == 2
    assert "no name of a tenant" in run.err
    assert run("saga", "list", "--limit", "1") == 0
    assert "more than 1" in run.err
    shown = run.one("saga", "show", STUCK)
    assert (shown["status"], shown["stuck_at"]) == ("stuck", "pay")
    steps, log = shown["steps"], shown["log"]
    assert isinstance(steps, list)
    assert isinstance(log, list)
    assert [(one["step"], one["phase"], one["undo"]) for one in steps] == [
        ("place", "done", None),
        ("pay", "done", "failed"),
        ("reserve", "failed", None),
    ]
    assert [one["event"] for one in log][:3] == ["SagaStarted", "StepStarted", "StepSucceeded"]
    assert run("saga", "show", STUCK) == 0
    assert "the bank is closed" in run.out
    assert "secret number" not in run.out
    assert run("saga", "graph", STUCK, *CLASSES) == 0
    assert run.out.startswith("stateDiagram-v2")
    assert "undo pay: failed" in run.out
    assert run("saga", "graph", "purchase", *CLASSES) == 0
    assert "pay --> reserve" in run.out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("action", "events"),
    [
        ("retry-step", ["SagaResumed", "UndoStarted", "UndoSucceeded"]),
        ("skip-step", ["SagaResumed", "UndoSkipped", "UndoStarted"]),
        ("fail", ["SagaFailed"]),
    ],
)
def test_a_stuck_one_goes_on_as_was_decided(
    database_url: str, run: Commands, action: str, events: list[str]
) -> None:
    # SAGA-13, CLI-20
    on(database_url, _begin)
    before = len(fetch(database_url, "SELECT FROM events WHERE stream_id = $1", STUCK))
    why = ("--reason", "the bank is open", *CLASSES)
    assert run("saga", action, STUCK, *why) == 2, "nobody can be asked"
    found = run.one("saga", action, STUCK, "--yes", *why)
    assert found["status"] == ("failed" if action == "fail" else "compensating")
    on(database_url, _go_on)
    stored = fetch(
        database_url,
        "SELECT event_type FROM events WHERE stream_id = $1 AND version > $2 ORDER BY version",
        STUCK,
        before,
    )
    assert [row[0] for row in stored][: len(events)] == events
    audit = fetch(
        database_url,
        "SELECT actor, resource, success, metadata ->> 'reason' FROM audit_log WHERE action = $1",
        f"saga {action}",
    )
    assert audit == [(system_user(), f"saga {STUCK}", True, "the bank is open")]
    assert run("saga", action, STUCK, "--yes", *why) == 4, f"it is over: {run.err}"


@pytest.mark.slow
def test_what_cannot_be_decided_is_told_and_nothing_is_done(
    database_url: str, run: Commands
) -> None:
    # SAGA-13, CLI-20
    on(database_url, _begin)
    why = ("--reason", "r", "--yes")
    unknown = "kind purchase is known here; nothing was done. Name the module that has it: --import"
    for words, code, told in (
        (("show", "purchase-nobody"), 3, "there is no saga purchase-nobody"),
        (("show", "nonsense"), 2, "is no id of a saga"),
        (("retry-step", DONE, *why, *CLASSES), 4, "is completed and cannot retry"),
        (("compensate", DONE, *why, *CLASSES), 4, "is completed and cannot compensate"),
        (("retry-step", STUCK, *why), 3, unknown),
        (("retry-step", STUCK, *why, "--import", "tests.nowhere"), 3, "no module tests.nowhere"),
        (("retry-step", STUCK, "--yes", "--reason", " ", *CLASSES), 2, "the reason is empty"),
        (("graph", "purchase"), 3, unknown),
    ):
        assert run("saga", *words) == code, run.err
        assert told in run.err
        assert run.out == ""
    assert run.one("saga", "show", STUCK)["status"] == "stuck"


@pytest.mark.slow
def test_one_that_runs_is_compensated_beside_its_program(database_url: str, run: Commands) -> None:
    # SAGA-13, CLI-20: the actor that runs it reads what was decided, and goes on
    async def begin(database: Database) -> None:
        with trio.fail_after(PATIENCE_S):
            world = postgres_world(database)
            player = _player(is_open=True)
            player.rules["reserve"] = lambda _: None
            async with open_desk(world, player, Purchase) as desk:
                await desk.sagas.start(Purchase, Basket("o", "ann", 5), name="stuck")
                while "reserve" not in player.told:
                    await player.came.wait()
                code = await trio.to_thread.run_sync(
                    lambda: run("saga", "compensate", STUCK, "--yes", "--reason", "r", *CLASSES)
                )
                assert code == 0, run.err
                (reserve,) = [one for one in player.got if one.step == "reserve"]
                await desk.sagas.reply(reserve, Succeeded())
                assert await ended(desk.sagas, SagaId.parse(STUCK)) is Status.FAILED
                assert player.told[3:] == ["undo reserve", "undo pay", "undo place"]

    on(database_url, begin)
