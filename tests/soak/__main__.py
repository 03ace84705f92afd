"""`make soak`: the proofs of the suite, for long: each again and again, until its time is over.

`python -m tests.soak` runs all, `python -m tests.soak order` one, `MINUTES=1` shortens each.
A round that itself lasts so long (`LASTS`) is shortened too. A line a round, and a report in
build/soak.json; a round that fails ends the run, with the seed that it printed. All that a round
said, and what a failed one left, is in build/soak/.
Every round is a process of its own, with servers and folders of its own.
"""

import json
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.nodes.telling import MARK

ROOT = Path(__file__).parents[2]
OUTPUT = ROOT / "build" / "soak.json"
# The longest is of an hour where the machine is quiet. The suite ends a test after ten minutes.
ROUND_S_MAX = 3 * 3600


# Of a run that lasts: how often it says how it is, and what CLU-43 promises on a quiet machine.
CHAOS = (("PROGRESS_S", "30"), ("CONVERGED_S_MAX", "15"))
# What says how long a round lasts, in seconds.
LASTS = "CHAOS_S"
# Lines of a round that are passed on at once: how it is, and its figures.
TOLD = (MARK, "SEED=", "{")
LAST_LINES = 60


@dataclass(frozen=True)
class Soak:
    """A proof, how long or how often it is repeated, and what it is told beside."""

    proves: str
    test: str
    minutes: float | None = None
    rounds: int | None = None
    environment: tuple[tuple[str, str], ...] = ()


SOAKS = {
    "order": Soak(
        "STORE-21",
        "tests/storage/test_order_proof.py::test_nothing_is_skipped_or_doubled",
        minutes=10,
    ),
    "server": Soak(
        "REL-81, REL-91: the server killed three times a round",
        "tests/storage/test_order_proof.py::test_a_killed_server_loses_and_doubles_nothing",
        rounds=70,
    ),
    "backups": Soak(
        "OPS-2: 100,000 events, a base, an incremental backup, 200 writes a second, a moment back",
        "tests/storage/backups/test_drill.py::test_a_moment_amid_writing_comes_back_with_exactly_its_events",
        rounds=3,
        environment=(("EVENTS", "100000"), ("SECONDS", "30")),
    ),
    "site": Soak(
        "REL-91: the site killed",
        "tests/journeys/test_process.py::test_acknowledged_messages_survive_kill_9",
        rounds=200,
    ),
    "rolling": Soak(
        "REL-24: 200 clients, 20 processes one after the other on one port",
        "tests/journeys/test_rolling_restart.py::test_a_rolling_restart_loses_and_doubles_nothing",
        rounds=1,
        environment=(("CLIENTS", "200"), ("ROUNDS", "20")),
    ),
    "nodes-rolling": Soak(
        "CLU-41, CLU-31: three nodes renewed in turn under 150 pages, 50 programs, 50 posts/s",
        "tests/nodes/test_rolling.py::test_nodes_renewed_in_turn_lose_and_double_nothing",
        rounds=1,
        environment=(("PAGES", "150"), ("PROGRAMS", "50"), ("POSTS_PER_S", "50"), ("ROUNDS", "2")),
    ),
    "nodes-rolling-nginx": Soak(
        "CLU-41, CLU-42: the same behind nginx",
        "tests/nodes/test_rolling.py::test_nodes_renewed_in_turn_lose_and_double_nothing",
        rounds=1,
        environment=(
            ("BALANCER", "nginx"),
            ("PAGES", "50"),
            ("PROGRAMS", "20"),
            ("POSTS_PER_S", "20"),
        ),
    ),
    "nodes-chaos": Soak(
        "CLU-43: nodes, servers of messages and all lines struck for a minute",
        "tests/nodes/test_chaos.py::test_whatever_is_struck_nothing_is_lost_or_doubled",
        rounds=3,
        environment=(("CHAOS_S", "60"), *CHAOS),
    ),
    "nodes-chaos-long": Soak(
        "CLU-43: the same for half an hour",
        "tests/nodes/test_chaos.py::test_whatever_is_struck_nothing_is_lost_or_doubled",
        rounds=1,
        environment=(("CHAOS_S", "1800"), *CHAOS),
    ),
    "nodes-shop": Soak(
        "CLU-43: nodes of a program struck for a minute; sagas, a projection, the bus and asks",
        "tests/nodes/test_shop_chaos.py::test_whatever_is_struck_what_a_program_began_is_ended",
        rounds=3,
        environment=(("CHAOS_S", "60"), *CHAOS),
    ),
    "nodes-shop-long": Soak(
        "CLU-43: the same for half an hour",
        "tests/nodes/test_shop_chaos.py::test_whatever_is_struck_what_a_program_began_is_ended",
        rounds=1,
        environment=(("CHAOS_S", "1800"), *CHAOS),
    ),
    "bus-days": Soak(
        "BUS-14: a million records of eight days, read by three groups",
        "tests/storage/test_bus_postgres.py::"
        "test_a_log_that_three_groups_have_read_is_as_large_as_a_day",
        rounds=1,
        environment=(("RECORDS", "1000000"),),
    ),
    "bus-away": Soak(
        "BUS-13, REL-85: PostgreSQL under the bus killed twice, and away for a minute each time",
        "tests/storage/test_bus_postgres.py::test_a_killed_server_loses_and_doubles_nothing",
        rounds=1,
        environment=(("AWAY_S", "60"),),
    ),
    "bus-away-kafka": Soak(
        "BUS-13, REL-85: a broker killed with 6000 records in flight, and away for a minute",
        "tests/storage/test_bus_kafka.py::test_a_killed_broker_loses_nothing_that_it_acknowledged",
        rounds=1,
        environment=(("AWAY_S", "60"),),
    ),
    "link": Soak(
        "CLU-46: servers of messages killed, stopped, told to leave, changed",
        "tests/storage/link/test_nats_faults.py",
        minutes=5,
    ),
    "nodes-standing-still": Soak(
        "CLU-46: a node stopped for 3 s and 20 s, its loop blocked for 5 s, under 20 posts/s",
        "tests/nodes/test_standing_still.py::"
        "test_a_node_that_stands_still_loses_and_doubles_nothing",
        rounds=1,
        environment=(("PAGES", "10"),),
    ),
    "nodes-simulated": Soak(
        "CLU-44: nodes that talk while everything between them breaks, 200 seeds",
        "tests/actors/cluster/reaching/test_talk_simulated.py::"
        "test_what_is_promised_holds_whatever_breaks",
        rounds=1,
        environment=(("TALK_SEEDS", "200"),),
    ),
    "clients": Soak(
        "WEB-54: 1,000 messages to a client, the site killed and drained in between",
        "tests/journeys/test_clients.py::test_clients_of_a_killed_site_lose_and_double_nothing",
        rounds=3,
        environment=(("MESSAGES", "1000"),),
    ),
    "names": Soak(
        "REL-72: a million distinct addresses, tabs, clients and ids",
        "tests/web/test_many_names.py::test_distinct_names_leave_the_server_within_a_bound",
        rounds=1,
        environment=(("NAMES", "1000000"),),
    ),
    "steady": Soak(
        "REL-72: 500 streams and 200 messages a second, for an hour",
        "tests/web/test_steady_memory.py::test_a_room_that_never_rests_leaves_the_memory_as_it_is",
        rounds=1,
        environment=(("STREAMS", "500"), ("EVENTS", "4000"), ("ROUNDS", "180")),
    ),
    "ports": Soak(
        "REL-91: a program on all ports killed, its server, and both",
        "tests/storage/test_crash_rounds.py",
        rounds=1,
        environment=(("ROUNDS", "200"),),
    ),
    "sagas": Soak(
        "SAGA-6: a checkout killed behind every append and send",
        "tests/actors/sagas/test_crashes.py::"
        "test_a_killed_process_leaves_a_checkout_that_ends_as_it_would_have",
        rounds=1,
        environment=(("PLACES", "all"),),
    ),
    "durability": Soak(
        "REL-92", "tests/storage/test_durability.py", rounds=1, environment=(("ROUNDS", "200"),)
    ),
    "history": Soak(
        "REL-93",
        "tests/storage/test_history.py::test_one_order_explains_what_all_clients_saw",
        minutes=10,
    ),
    "tags": Soak(
        "STORE-8: conditions over tags in three processes, one killed a round",
        "tests/storage/test_tag_race.py::test_no_seat_is_taken_twice_by_several_processes",
        minutes=10,
        environment=(("ROUNDS", "40"),),
    ),
    "network": Soak(
        "REL-84: cut apart for 10 s, refused for 10 s, 200 ms a round trip",
        "tests/storage/test_toxic_proxy.py::"
        "test_a_program_cut_off_from_its_database_recovers_by_itself",
        minutes=10,
        environment=(("FORM", "long"),),
    ),
    "site-network": Soak(
        "REL-84: the same before a site, for its visitors",
        "tests/journeys/test_database_away.py::"
        "test_a_site_that_is_cut_off_from_its_database_recovers_by_itself",
        rounds=5,
        environment=(("FORM", "long"),),
    ),
    "leaving": Soak(
        "REL-33: 10,000 clients that leave in the middle of something",
        "tests/web/wiring/test_open_sockets.py::"
        "test_clients_that_leave_in_any_way_leave_nothing_behind",
        rounds=1,
        environment=(("LEFT", "2500"),),
    ),
    "schedules": Soak(
        "ACT-125: random crash schedules over a tree",
        "tests/actors/testing/test_schedules.py::test_a_thousand_schedules_keep_the_rules_of_life",
        rounds=1,
        environment=(("SCHEDULES", "20000"),),
    ),
    "banking": Soak(
        "EX-3: random transfers on PostgreSQL while actors crash and processes die",
        "tests/examples/test_banking.py::test_no_money_is_made_or_lost_on_postgresql",
        rounds=1,
        environment=(("TRANSFERS", "1000"),),
    ),
    "ticketing": Soak(
        "EX-45, EX-51: 100 buyers for a seat, 50 for three, one of three servers killed",
        "tests/examples/ticketing/http/test_ticketing_processes.py",
        rounds=3,
        environment=(("FORM", "long"),),
    ),
    "ticketing-histories": Soak(
        "EX-42: random sales while processes die, the bank is late, and cards are declined",
        "tests/examples/ticketing/test_reservations.py",
        rounds=1,
        environment=(("HISTORIES", "1000"),),
    ),
    "machine-store": Soak(
        "TEST-9: any calls of a store, against a model",
        "tests/storage/test_event_store_model.py",
        minutes=5,
        environment=(("EXAMPLES", "100"),),
    ),
    "machine-rows": Soak(
        "TEST-9: a projection filled in any pieces is as a rebuild makes it",
        "tests/storage/test_machines.py::"
        "test_filled_in_any_pieces_a_projection_is_as_a_rebuild_makes_it",
        minutes=5,
        environment=(("EXAMPLES", "50"),),
    ),
    "machine-stock": Soak(
        "TEST-9: nothing of the checkout's stock is sold twice",
        "tests/examples/test_inventory_any_order.py::"
        "test_nothing_is_sold_twice_whatever_comes_in_whatever_order",
        minutes=5,
        environment=(("EXAMPLES", "500"),),
    ),
    "machine-sagas": Soak(
        "TEST-9: any answers, time-outs and crashes end a saga or leave it stuck",
        "tests/actors/sagas/test_parts_of_sagas.py::"
        "test_whatever_comes_in_whatever_order_it_ends_or_waits_for_a_person",
        minutes=5,
        environment=(("EXAMPLES", "150"),),
    ),
}


@dataclass
class Report:
    """What came of a proof."""

    name: str
    proves: str
    rounds: int
    seconds: float
    is_green: bool
    last_lines: str = ""


def command(one: Soak) -> list[str]:
    """What runs a round: pytest, with a limit of time for the long form."""
    limits = [f"timeout={ROUND_S_MAX}", f"faulthandler_timeout={ROUND_S_MAX - 10}"]
    options = [word for limit in limits for word in ("-o", limit)]
    return [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-s",
        "-p",
        "no:cacheprovider",
        *options,
        one.test,
    ]


def run_round(
    words: Sequence[str], environment: dict[str, str], left: Path
) -> tuple[int, list[str]]:
    """Run one, passing on what it tells; its exit code and last lines. All is in `output.txt`."""
    last: deque[str] = deque(maxlen=LAST_LINES)
    with (
        (left / "output.txt").open("w") as output,
        subprocess.Popen(
            words,
            cwd=ROOT,
            env={"LEFT": str(left), **os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            output.write(line)
            output.flush()
            last.append(line.rstrip("\n"))
            if line.startswith(TOLD):
                print(f"  {last[-1]}", flush=True)
    return process.returncode, list(last)


def environment_of(one: Soak, minutes: float | None) -> dict[str, str]:
    """What a round is told; one that lasts is made no longer than so many minutes."""
    told = dict(one.environment)
    if minutes is not None and LASTS in told:
        told[LASTS] = f"{min(float(told[LASTS]), minutes * 60):g}"
    return told


def soak(name: str, one: Soak, minutes: float | None) -> Report:
    """Repeat a proof until its time or its rounds are over, or until it fails."""
    began, done, limit_s = time.monotonic(), 0, None if one.minutes is None else one.minutes * 60
    if minutes is not None:
        limit_s = minutes * 60
    left = OUTPUT.parent / "soak" / name
    left.mkdir(parents=True, exist_ok=True)
    while True:
        code, lines = run_round(command(one), environment_of(one, minutes), left)
        done += 1
        seconds = time.monotonic() - began
        is_green = code == 0
        print(
            f"{name}: round {done}, {seconds:.0f} s, {'green' if is_green else 'RED'}", flush=True
        )
        if not is_green:
            print("\n".join(lines), f"\nall it said: {left / 'output.txt'}")
            last = "\n".join(lines)
            return Report(name, one.proves, done, seconds, is_green=False, last_lines=last)
        if (limit_s is not None and seconds >= limit_s) or done == one.rounds:
            return Report(name, one.proves, done, seconds, is_green=True)


def main(arguments: Sequence[str]) -> int:
    """Run what is asked for; returns the exit code."""
    unknown = [name for name in arguments if name not in SOAKS]
    if unknown:
        raise SystemExit(f"there is no soak {unknown[0]!r}; there are: {', '.join(SOAKS)}")
    minutes = float(os.environ["MINUTES"]) if "MINUTES" in os.environ else None
    reports = []
    OUTPUT.parent.mkdir(exist_ok=True)
    for name in arguments or SOAKS:
        reports.append(soak(name, SOAKS[name], minutes))
        # After each, so that an ended run has told what it has.
        OUTPUT.write_text(json.dumps([asdict(one) for one in reports], indent=2) + "\n")
    return 0 if all(one.is_green for one in reports) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
