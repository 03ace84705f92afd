"""Every command with its options, and nothing else: a call for help must not load a database.

`docs/reference/command_line.md` tells the same; a test compares the two.
"""

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

# Text, as the class takes a parameter for type checkers only. It has no public name.
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


# A list that somebody reads; programs ask on with --after.
ROWS = 50
# Of dead letters with a payload of 256 KiB each.
ROWS_MAX = 1000
KINDS = ("message", "effect", "event", "projection", "bus", "outbox", "mail", "saga")
LAB_MODES = ("public", "readonly", "off")
ROLES = ("moderator", "admin")
STATUSES = ("pending", "processing", "resolved", "discarded")
SAGA_STATUSES = ("running", "compensating", "completed", "failed", "stuck")
# A hundred years: longer ago is a mistake.
SECONDS_MAX = 3_155_760_000
OUTCOMES = ("accepted", "refused")
STORES = ("memory", "postgres")
SHELLS = ("bash", "zsh", "fish")
MADE = ("app", "actor", "aggregate", "projection", "saga")
PORT_MAX = 65535
# What `bench` measures; a name that is none of them ends with 3 and near ones, so no `choices`.
MEASURES = (
    "tell", "ask", "publish", "reducer", "append-memory", "saga-memory", "append-postgres",
    "saga-postgres",
)  # fmt: skip
# Below it every slice is a single turn; above it samples take more memory than they tell.
BENCH_S_MIN, BENCH_S, BENCH_S_MAX = 0.1, 10.0, 60.0


def build_parser() -> argparse.ArgumentParser:
    """Call this for the parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="greenroom",
        description="An actor runtime and the site that proves it live.",
        epilog="Exit codes: 0 done, 1 failed or something is wrong, 2 usage or settings, 3 not "
        "found, 4 refused, 5 not reachable. Settings come from the environment, too.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    serve = commands.add_parser(
        "serve",
        help="run the site; settings come from the environment",
        description="Run the site until Ctrl-C, SIGTERM or SIGHUP. Settings come from the "
        "environment; docs/reference/settings.md lists them.",
    )
    _add_store(serve)
    _add_run(commands)
    _add_example(commands)
    _add_new(commands)
    words = "show what newer templates would change in this program, as a patch; writes nothing"
    _reading(commands, "upgrade", words)
    _add_exercise(commands)
    _add_migrate(commands)
    _add_lab(commands)
    _add_tree(commands)
    _add_breakers(commands)
    _add_top(commands)
    _add_diagnose(commands)
    words = "print the file by which a shell completes these commands; no setting is read"
    completion = commands.add_parser("completion", help=words, description=words)
    completion.add_argument("shell", choices=SHELLS, help="for which shell")
    words = "look what would keep a site from running well here, and tell what to do"
    _reading(commands, "doctor", f"{words}; ends with 1 when something would")
    _add_bench(commands)
    for add in (
        _add_streams, _add_events, _add_follow, _add_replay,
        _add_store_commands, _add_roles, _add_sessions, _add_tokens, _add_audit, _add_risk,
        _add_projection, _add_saga, _add_backup,
        _add_dlq, _add_outbox, _add_mail, _add_timers, _add_bus, _add_cluster,
    ):  # fmt: skip
        add(commands)
    return parser


def environment_of(parsed: argparse.Namespace) -> dict[str, str]:
    """Call this for the environment with the options that stand before it."""
    environment = dict(os.environ)
    for name in ("state_dir", "database_url", "backup_dir"):
        if getattr(parsed, name, None) is not None:
            environment[name.upper()] = getattr(parsed, name)
    return environment


def _add_store(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--state-dir", help="where the data lie (STATE_DIR)")
    parser.add_argument("--database-url", help="a PostgreSQL server (DATABASE_URL)")


def _add_common(parser: argparse.ArgumentParser) -> None:
    _add_store(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def _reading(commands: Commands, name: str, words: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=words, description=words)
    _add_common(parser)
    return parser


def _changing(
    commands: Commands, name: str, words: str, *, needs_reason: bool = False
) -> argparse.ArgumentParser:
    parser = _reading(commands, name, words)
    parser.add_argument("--yes", action="store_true", help="do not ask first")
    parser.add_argument(
        "--reason",
        required=needs_reason,
        default="",
        help="why, for the audit" + ("" if needs_reason else " (optional)"),
    )
    return parser


def _group(commands: Commands, name: str, words: str) -> Commands:
    parser = commands.add_parser(name, help=words, description=words)
    return parser.add_subparsers(dest="action", required=True, metavar="ACTION")


def _number(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isascii() or not text.isdigit() or len(text) > 19:
            raise argparse.ArgumentTypeError(f"must be a whole number, got {text!r}")
        if not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"must be from {low} to {high}, got {text}")
        return int(text)

    return parse


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number, got {text!r}") from None
    # One that is no number is in no range either.
    if not BENCH_S_MIN <= seconds <= BENCH_S_MAX:
        raise argparse.ArgumentTypeError(
            f"must be from {BENCH_S_MIN:g} to {BENCH_S_MAX:g}, got {text}"
        )
    return seconds


_limit, _id = _number(1, ROWS_MAX), _number(1, 2**63 - 1)


def _add_paging(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--limit", type=_limit, default=ROWS, help=f"how many ({ROWS})")


def _add_run(commands: Commands) -> None:
    parser = commands.add_parser(
        "run",
        help="run a supervised system of a program",
        description="Run a supervised system until Ctrl-C, SIGTERM or SIGHUP; its modules may lie "
        "in the working folder.",
    )
    parser.add_argument("system", help="what to run, as MODULE:CLASS, such as shop.system:Shop")
    parser.add_argument(
        "--dev",
        action="store_true",
        help="start it anew when a Python file here changes, and show tracebacks",
    )
    _add_store(parser)


def _add_example(commands: Commands) -> None:
    parser = commands.add_parser(
        "example",
        help="run one of the worked examples",
        description="Run a worked example until Ctrl-C, SIGTERM or SIGHUP; without a name, list "
        "them. Settings come from the environment, as those of serve.",
    )
    parser.add_argument("name", nargs="?", help="which one")
    parser.add_argument("--list", action="store_true", help="list them with what each shows")
    parser.add_argument("--json", action="store_true", help="the list as one JSON object a line")
    parser.add_argument("--port", type=_number(0, PORT_MAX), help="where it listens (PORT); 0: any")
    parser.add_argument(
        "--store", choices=STORES, default="memory", help="where it keeps its events (memory)"
    )
    parser.add_argument("--order-id", help="of orders: print what happened to this one, and end")
    _add_store(parser)


def _add_new(commands: Commands) -> None:
    words = "make a program, or a part of the one in this folder, with its tests"
    parser = _reading(commands, "new", f"{words}; asks for what is missing on a terminal")
    parser.add_argument("kind", nargs="?", choices=MADE, help="what to make")
    parser.add_argument("name", nargs="?", help="its name, such as shop or ticket_list")
    parser.add_argument("--saga", action="store_true", help="app: with a saga")
    parser.add_argument("--bus", choices=("kafka",), help="app: publish its events there")
    parser.add_argument("--web", action="store_true", help="app: with a live page")
    parser.add_argument("--vendor", action="store_true", help="app: with greenroom's wheel in it")
    parser.add_argument("--of", metavar="AGGREGATE", help="projection: of which aggregate")
    parser.add_argument("--list", action="store_true", help="list what can be made")
    parser.add_argument("--dry-run", action="store_true", help="show what would be written")


def _add_exercise(commands: Commands) -> None:
    parser = commands.add_parser(
        "exercise",
        help="write the files of an exercise of a learning path",
        description="Write the module of an exercise and its check, which is red until the module "
        "is completed, into a new folder; without a name, list them. No setting is read.",
    )
    parser.add_argument("name", nargs="?", help="which one")
    parser.add_argument("--list", action="store_true", help="list them with what each is about")
    parser.add_argument("--json", action="store_true", help="the list as one JSON object a line")
    parser.add_argument("--dir", metavar="FOLDER", help="write it there (a folder of its name)")


def _add_migrate(commands: Commands) -> None:
    parser = _changing(commands, "migrate", "bring the schema up, or only look at it")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--plan", action="store_true", help="tell what would be applied")
    what.add_argument("--check", action="store_true", help="end with 4 when something would be")
    what.add_argument(
        "--to",
        type=_number(0, 9999),
        metavar="N",
        help="go to this version, down too; nobody may be connected then",
    )


def _add_tenant(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tenant", help="of this tenant; else of none")


def _add_streams(commands: Commands) -> None:
    parser = _reading(commands, "streams", "list the streams of the store by name")
    parser.add_argument("--category", help="only of this category, such as order")
    parser.add_argument("--prefix", help="only those whose names begin so")
    parser.add_argument("--after", metavar="STREAM", help="only behind this name")
    _add_tenant(parser)
    _add_paging(parser)


def _add_stream(parser: argparse.ArgumentParser) -> None:
    """What is asked of the events of one stream."""
    parser.add_argument("stream", help="which stream, such as order-7")
    parser.add_argument(
        "--from", dest="first", type=_id, default=1, metavar="N", help="from this version on"
    )
    parser.add_argument("--to", dest="last", type=_id, metavar="N", help="up to this version")
    parser.add_argument(
        "--private",
        metavar="REASON",
        help="open private texts, for this reason, which the audit keeps; else they stay sealed",
    )
    _add_tenant(parser)


def _add_events(commands: Commands) -> None:
    _add_stream(_reading(commands, "events", "print the events of a stream, as they are stored"))


def _add_follow(commands: Commands) -> None:
    words = "print events as they are stored, of all streams and tenants, until Ctrl-C"
    parser = _reading(commands, "follow", words)
    parser.add_argument("--category", help="only of this category, such as order")
    parser.add_argument(
        "--number", type=_number(0, ROWS_MAX), default=10, help="begin with the newest (10)"
    )
    parser.add_argument(
        "--after", metavar="BOOKMARK", help="go on behind this, which a line of --json told"
    )


def _add_replay(commands: Commands) -> None:
    words = "tell how the state of a stream came to be, event by event; changes nothing"
    parser = _reading(commands, "replay", words)
    _add_stream(parser)
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--show-state", action="store_true", help="the state after each event")
    how.add_argument("--diff", action="store_true", help="what each event makes otherwise")
    parser.add_argument(
        "--step", action="store_true", help="by keys: n, p, g N, / and a filter, q; on a terminal"
    )
    parser.add_argument(
        "--as-of", metavar="TIME", help="only what was there at a moment such as 2026-01-31T12:00Z"
    )
    parser.add_argument(
        "--import",
        dest="modules",
        action="append",
        default=[],
        metavar="MODULE",
        help="where its aggregate is, as a module or MODULE:CLASS; may be repeated",
    )


def _add_store_commands(commands: Commands) -> None:
    actions = _group(
        commands, "store", "look whether a store is whole; make a moved one serve again"
    )
    check = _reading(
        actions, "check", "look at all that is stored; ends with 1 when it is not whole"
    )
    check.add_argument(
        "--import",
        dest="modules",
        action="append",
        default=[],
        metavar="MODULE",
        help="a module with event classes, so that its events are decoded too; may be repeated",
    )
    _changing(actions, "renumber", "give events a new order, after a restore into another cluster")
    _changing(actions, "remove-tombstoned", "remove the events of tombstoned streams from the disk")
    forget = _changing(
        actions, "forget", "forget a subject: nobody reads its private texts any more, for ever"
    )
    forget.add_argument("subject", help="whose texts, such as user:7, as its events name it")
    forget.add_argument(
        "--in-advance",
        action="store_true",
        help="also when nothing private of it is here: what comes is refused",
    )
    rewound = _changing(actions, "rewound", "serve a store that went back in time, as it is")
    rewound.add_argument(
        "--lossless",
        action="store_true",
        help="nothing acknowledged is missing: lineage and cursors stay",
    )
    rewound.add_argument(
        "--written-to",
        metavar="LSN",
        help="how far the former server had written (pg_current_wal_lsn), with --lossless",
    )


def _add_lab(commands: Commands) -> None:
    words = "open or close the lab of the running site for actions, within a second"
    parser = _changing(commands, "lab", words)
    parser.add_argument("mode", choices=LAB_MODES, help="what visitors may do in it")


def _add_tree(commands: Commands) -> None:
    parser = _reading(commands, "tree", "show the supervision tree of the running site")
    parser.add_argument("path", nargs="?", help="of this actor and those below, such as site/rooms")
    parser.add_argument("--watch", action="store_true", help="go on, until Ctrl-C")


def _add_breakers(commands: Commands) -> None:
    actions = _group(commands, "breakers", "see what the running site leaves alone outside")
    _reading(actions, "list", "list what it calls outside of itself, and how that does")
    reset = _changing(actions, "reset", "have one that is left alone called again at once")
    reset.add_argument("name", help="which, such as mail")


def _add_top(commands: Commands) -> None:
    words = "show the figures of the running site, and who of its actors is busiest"
    parser = _reading(commands, "top", words)
    parser.add_argument("--once", action="store_true", help="one look, and end")


def _add_diagnose(commands: Commands) -> None:
    words = "pack what somebody needs who helps: settings, tree, tasks, figures, log, store"
    parser = _reading(commands, "diagnose", words)
    parser.add_argument(
        "--out", required=True, metavar="FILE", help="a new file, such as help.tar.gz"
    )


def _add_bench(commands: Commands) -> None:
    words = "measure what this machine does with actors, the store and sagas, in ten seconds"
    parser = _reading(commands, "bench", f"{words}; in a database of its own, which it removes")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="NAME",
        help=f"only this one of {', '.join(MEASURES)}; may be repeated",
    )
    parser.add_argument(
        "--seconds",
        type=_seconds,
        default=BENCH_S,
        metavar="S",
        help=f"how long it measures, {BENCH_S_MIN:g} to {BENCH_S_MAX:g} ({BENCH_S:g})",
    )


def _add_roles(commands: Commands) -> None:
    actions = _group(commands, "roles", "say who decides over messages and who operates the site")
    grant = _changing(actions, "grant", "give a member a role, from their next request on")
    revoke = _changing(actions, "revoke", "take a role from a member; without it nothing changes")
    for parser in (grant, revoke):
        parser.add_argument("role", choices=ROLES, help="which role")
        parser.add_argument("username", help="whose, by the name they registered with")


def _add_sessions(commands: Commands) -> None:
    actions = _group(commands, "sessions", "see who is signed in, and end it")
    listed = _reading(actions, "list", "list the sessions of members, the newest first")
    listed.add_argument("--user", help="of this member only, by name or id")
    _add_paging(listed)
    revoke = _changing(
        actions, "revoke", "end sessions: on all processes within a second; 3 for an unknown one"
    )
    which = revoke.add_mutually_exclusive_group(required=True)
    which.add_argument("session", nargs="?", help="this one, by the id that the list tells")
    which.add_argument("--user", help="all of this member, by name or id")
    which.add_argument("--all", action="store_true", help="all of everybody")


def _add_tokens(commands: Commands) -> None:
    actions = _group(commands, "tokens", "see the API tokens of a member, and end them")
    listed = _reading(actions, "list", "list them, the newest first; none is ever shown itself")
    listed.add_argument("--user", required=True, help="the member, by name or id")
    revoke = _changing(
        actions, "revoke", "end tokens, and what they have open; 3 for an unknown one"
    )
    revoke.add_argument("--user", required=True, help="the member, by name or id")
    which = revoke.add_mutually_exclusive_group(required=True)
    which.add_argument("token", nargs="?", help="this one, by the id that the list tells")
    which.add_argument("--all", action="store_true", help="all of the member")


def _add_audit(commands: Commands) -> None:
    actions = _group(commands, "audit", "look what was done with accounts and by commands")
    search = _reading(actions, "search", "search the audit, the newest first")
    search.add_argument("--user", help="done by this member or to it, by name or id")
    search.add_argument("--act", help="this kind only, such as account.sign_in")
    search.add_argument("--since", metavar="TIME", help="from then on, such as 2026-01-31")
    search.add_argument("--until", metavar="TIME", help="before then")
    search.add_argument("--outcome", choices=OUTCOMES, help="what was done, or what was refused")
    search.add_argument("--before", type=_id, metavar="ID", help="older than this row")
    _add_paging(search)


def _add_risk(commands: Commands) -> None:
    actions = _group(commands, "risk", "look why more was asked of a sign-in")
    explain = _reading(actions, "explain", "tell the parts of the score of one sign-in")
    explain.add_argument("login", help="its id, as the log and the audit tell it")


def _add_projection(commands: Commands) -> None:
    actions = _group(commands, "projection", "see and steer what fills the read models")
    _reading(actions, "list", "list all generations, with state and error")
    lag = _reading(actions, "lag", "tell how far each serving generation is behind")
    lag.add_argument("name", nargs="?", help="one projection")
    rebuild = _changing(
        actions, "rebuild", "have a projection built anew beside the one that serves"
    )
    rebuild.add_argument("--wait", action="store_true", help="show the progress until it serves")
    back = _changing(actions, "swap-back", "read from the generation before, which is kept 24 h")
    back.add_argument("--to", type=_id, metavar="GENERATION", help="another than the last one")
    resume = _changing(actions, "resume", "let a halted projection go on, after a fix")
    skip = _changing(
        actions, "skip", "leave out the one event that halts a projection", needs_reason=True
    )
    for parser in (rebuild, back, resume, skip):
        parser.add_argument("name", help="the projection")


def _add_saga(commands: Commands) -> None:
    actions = _group(commands, "saga", "see what sagas have done, and decide of one that is stuck")
    found = _reading(actions, "list", "list sagas, those that are not over first")
    found.add_argument("--kind", help="only of this kind, such as checkout")
    found.add_argument("--status", choices=SAGA_STATUSES, help="only of this status")
    found.add_argument(
        "--older-than",
        type=_number(0, SECONDS_MAX),
        metavar="SECONDS",
        help="only those whose status did not change for so long",
    )
    found.add_argument("--tenant", help="those of this tenant; else those of none")
    _add_paging(found)
    show = _reading(actions, "show", "show one: its steps, its log, its timers, what waits")
    graph = _reading(actions, "graph", "draw one as Mermaid, with what happened, or a kind")
    retry = _changing(
        actions, "retry-step", "let a stuck one go on where it is stuck", needs_reason=True
    )
    skip = _changing(
        actions, "skip-step", "let a stuck one go on without that step or undo", needs_reason=True
    )
    undo = _changing(
        actions, "compensate", "have what one has done undone, also when stuck", needs_reason=True
    )
    fail = _changing(
        actions, "fail", "give a stuck one up; what it has done stays", needs_reason=True
    )
    for parser in (graph, retry, skip, undo, fail):
        parser.add_argument(
            "--import",
            dest="modules",
            action="append",
            default=[],
            metavar="MODULE",
            help="a module with the saga's class; may be repeated",
        )
    for parser in (show, retry, skip, undo, fail):
        parser.add_argument("saga", help="its id, such as checkout-42")
    graph.add_argument("saga", help="its id, such as checkout-42, or a kind")


def _add_backup(commands: Commands) -> None:
    actions = _group(commands, "backup", "back the embedded database up, and bring a moment back")
    base = _reading(actions, "base", "copy all of it, while it runs or not")
    incremental = _reading(actions, "incremental", "copy what changed since the last backup")
    listed = _reading(
        actions, "list", "list backups and what can be restored; ends with 1 when a part is missing"
    )
    verify = _reading(
        actions, "verify", "restore to look: into a scratch folder, check the store, tell the time"
    )
    restore = _reading(
        actions, "restore", "restore a moment into an empty folder, which a site then serves"
    )
    prune = _changing(actions, "prune", "remove the oldest backups and their part of the log")
    database = _group(commands, "db", "bring the embedded database up to a newer PostgreSQL")
    _changing(
        database,
        "upgrade",
        "bring the data up to the PostgreSQL of this program; the old ones stay",
    )
    for parser in (base, incremental, listed, verify, restore, prune):
        parser.add_argument("--backup-dir", help="where the backups lie (BACKUP_DIR)")
    verify.add_argument("--dir", help="an empty folder to restore into (one of the system's)")
    restore.add_argument("--dir", required=True, help="the empty folder, a STATE_DIR to be")
    for parser in (verify, restore):
        parser.add_argument(
            "--to", metavar="TIME", help="a moment such as 2026-01-31T12:00:00Z; else all there is"
        )
    for parser in (listed, verify, restore):
        parser.add_argument(
            "--timeline",
            type=_number(1, 2**31),
            metavar="N",
            help="another line of history than the newest, after an earlier restore",
        )
    prune.add_argument(
        "--keep",
        type=_number(1, 10_000),
        required=True,
        metavar="N",
        help="how many bases stay, with all that stands on them",
    )


def _add_dlq(commands: Commands) -> None:
    actions = _group(commands, "dlq", "see and settle dead letters")
    found = _reading(actions, "list", "list dead letters by number")
    found.add_argument("--status", choices=STATUSES, help="only of this status")
    found.add_argument("--after", type=_id, metavar="ID", help="only behind this one")
    show = _reading(actions, "show", "show one with all that is kept of it")
    retry = _changing(actions, "retry", "hand one back to where it failed, to be tried again")
    edit = _changing(actions, "edit", "replace what one says, and hand it back")
    edit.add_argument(
        "--payload",
        type=Path,
        required=True,
        metavar="FILE",
        help="what it shall say, made of what `dlq show` tells; - for the standard input",
    )
    every = _changing(actions, "retry-all", "hand the pending ones back, oldest first")
    for parser in (found, every):
        parser.add_argument("--kind", choices=KINDS, help="only of this kind")
        parser.add_argument("--source", help="only of this source, such as orders__g1")
        _add_paging(parser)
    discard = _changing(actions, "discard", "give one up, with a reason", needs_reason=True)
    for parser in (show, retry, edit, discard):
        parser.add_argument("id", type=_id, help="its number")
    _reading(actions, "stats", "count them by status")


def _add_outbox(commands: Commands) -> None:
    actions = _group(commands, "outbox", "see what waits to be sent")
    _reading(actions, "stats", "count what waits and what was given up")
    found = _reading(actions, "list", "list what was not sent, oldest first")
    found.add_argument("--after", type=_id, metavar="ID", help="only behind this one")
    held = _reading(actions, "held", "list the keys that wait behind a message that was given up")
    for parser in (found, held):
        _add_paging(parser)


def _add_mail(commands: Commands) -> None:
    actions = _group(commands, "mail", "see whether mail arrives, and what became of it")
    test = _reading(actions, "test", "send one mail at once, by the way out of the settings")
    found = _reading(actions, "list", "list what became of mails, the newest first")
    _add_paging(found)
    allow = _changing(actions, "allow", "send mail to an address again that was refused")
    for parser in (test, allow):
        parser.add_argument("address", help="whose, such as ada@example.org")


def _add_cluster(commands: Commands) -> None:
    actions = _group(commands, "cluster", "see who serves the store together, and steer it")
    _reading(actions, "status", "list the nodes, with how many shards each owns")
    _reading(actions, "plan", "list what should change hands, and is about to")
    drain = _changing(actions, "drain", "have a node hand over all that it owns, and take no more")
    drain.add_argument("node", help="which, by its name or its id")
    _reading(actions, "rebalance", "wait until all shards lie where they should; ends with 1 else")


def _add_timers(commands: Commands) -> None:
    actions = _group(commands, "timers", "see and cancel durable timers")
    found = _reading(actions, "list", "list open timers, soonest first")
    found.add_argument("--address", help="only of this address")
    due = _reading(actions, "due", "list those that are due and were not handled")
    for parser in (found, due):
        _add_paging(parser)
    cancel = _changing(actions, "cancel", "cancel the open timers of a name at an address")
    cancel.add_argument("address", help="whose timers")
    cancel.add_argument("name", help="their name")


def _add_bus(commands: Commands) -> None:
    actions = _group(commands, "bus", "see who reads the event bus, and move a group that stopped")
    _reading(actions, "groups", "list the groups, with their members")
    lag = _reading(actions, "lag", "tell how far a group is behind, by partition")
    seek = _changing(actions, "seek", "move a stopped group to another place")
    seek.add_argument(
        "--to",
        required=True,
        metavar="PLACE",
        help="earliest, latest, a time such as 2025-03-01T12:00Z, or an offset such as 7421.3 "
        "(of a broker: 7421)",
    )
    replay = _changing(actions, "replay", "have a stopped group read again all that is kept")
    for parser in (seek, replay):
        parser.add_argument("--topic", help="only of this topic")
    for parser in (lag, seek, replay):
        parser.add_argument("group", help="which group")
