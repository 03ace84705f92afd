"""The process that has imported everything, and becomes a program of ours by a fork for each order.

Importing the site takes more than a second of a processor, and the suite starts some hundreds of
programs. A fork is a process as any other: it is killed, stopped and starved by its own id, and
shares no memory that is written. What it does not show is a start from nothing; `test_process`,
`test_broken_log` and `test_fresh_machine` start interpreters of their own.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
import warnings
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn

from web.accounts.hashing import Passwords
from web.views import Renderer
from web.views.static import table

# What the most programs need; the rest of a program is imported where it is needed.
PRELOADED = ("web.cli.running.serving", "storage.postgres")
ORDER_BYTES_MAX = 64 * 1024


@dataclass
class Order:
    """A program to become: its module, its words, its folder and all of its environment."""

    module: str
    words: list[str]
    cwd: str
    environment: dict[str, str]


def main() -> None:
    line = socket.socket(fileno=int(sys.argv[1]))
    for name in PRELOADED:
        importlib.import_module(name)
    # Compiled once here, the templates are there in every site; so are the words nobody may choose.
    Renderer(table({}))
    Passwords()
    # What is here stays to the end. A collection in a fork, and its exit is one too, would look at
    # all of it, and so copy it all: half a second of a processor, for a program that does nothing.
    gc.collect()
    gc.freeze()
    # hypothesis, where a program imports it, asks who refers to trio's generator. Of what is here
    # it is not told, and warns that it will not seed it; who wants that thaws what is here.
    warnings.filterwarnings("ignore", "It looks like `register_random`")
    order = _serve(line)
    if order is not None:
        _become(order)


def _serve(line: socket.socket) -> Order | None:
    """Fork for every order until the other end is gone; returns an order in the child alone."""
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(woken, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    told: dict[int, int] = {}
    while True:
        readable, _, _ = select.select([line.fileno(), woken], [], [])
        if woken in readable:
            os.read(woken, 4096)
            _tell_ended(told)
        if line.fileno() not in readable:
            continue
        text, files, _, _ = socket.recv_fds(line, ORDER_BYTES_MAX, 3)
        if not text:
            return None
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            for number in (woken, wake, *told.values()):
                os.close(number)
            line.close()
            _take(files)
            return Order(**json.loads(text))
        out, err, status = files
        os.close(out)
        os.close(err)
        told[pid] = status
        line.send(str(pid).encode())


def _tell_ended(told: dict[int, int]) -> None:
    """Write the exit code of each child that has ended, as `subprocess` counts it."""
    for pid in list(told):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            number = told.pop(pid)
            with suppress(BrokenPipeError):
                os.write(number, str(os.waitstatus_to_exitcode(status)).encode())
            os.close(number)


def _take(files: list[int]) -> None:
    """Let the child's streams be those of the order; who starts it alone knows its status."""
    out, err, status = files
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, place in ((nothing, 0), (out, 1), (err, 2)):
        os.dup2(number, place)
    for number in {nothing, out, err, status} - {0, 1, 2}:
        os.close(number)


def _become(order: Order) -> NoReturn:
    """Run the program as `python -m` would, with the signals of a program that a person starts."""
    for each in (signal.SIGCHLD, signal.SIGHUP, signal.SIGTERM):
        signal.signal(each, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(order.cwd)
    os.environ.clear()
    os.environ.update(order.environment)
    sys.argv = [order.module, *order.words]
    runpy.run_module(order.module, run_name="__main__", alter_sys=True)
    sys.exit(0)


if __name__ == "__main__":
    main()
