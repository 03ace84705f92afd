"""SSE fan-out: events a second to 300 subscribers, ours beside its peers in the same run.

    make bench ONLY=fanout

Each server and the load generator is a process of its own; the load generator only counts bytes.
Peers: the stock framework (quart-trio on hypercorn) and, where `node` is installed, Node's http.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys

from tests.bench.rows import RUNS_MIN, Row, row

SUBSCRIBERS = 300
# About two seconds each on a small machine.
EVENTS = 1000
EVENTS_STOCK = 150

NODE = """
const http = require('http'); const clients = []; const body = 'x'.repeat(200);
const server = http.createServer((request, response) => {
  response.writeHead(200, {'content-type': 'text/event-stream'});
  response.write(': open\\n\\n'); clients.push(response);
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
process.stdin.once('data', async (line) => {
  const count = parseInt(line);
  for (let n = 0; n < count; n++) {
    const event = `id: ${n}\\ndata: ${body}\\n\\n`;
    for (const client of clients) client.write(event);
    await new Promise(setImmediate);
    if (n % 16 === 0)
      while (clients.some((client) => client.writableLength > 0)) await new Promise(setImmediate);
  }
  for (const client of clients) client.end();
  setTimeout(() => process.exit(0), 1000);
});
"""


def measure(server_command: list[str], events: int) -> float:
    """Call this to run one server against the load generator; returns events a second."""
    pipe = subprocess.PIPE
    with subprocess.Popen(server_command, stdin=pipe, stdout=pipe, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        port = server.stdout.readline().strip()
        command = [sys.executable, "-m", "tests.bench.fanout_load", port, str(SUBSCRIBERS)]
        with subprocess.Popen(command, stdout=pipe, text=True) as load:
            assert load.stdout is not None
            assert load.stdout.readline().strip() == "ready"
            server.stdin.write(f"{events}\n")
            server.stdin.flush()
            _, seconds = load.stdout.readline().split()
        server.wait(timeout=20)
    return events * SUBSCRIBERS / float(seconds)


def fanout() -> list[Row]:
    """Measure ours and the peers by turns, so that a busy moment strikes all of them."""
    own = [sys.executable, "-m", "tests.bench.fanout_servers"]
    node = shutil.which("node")
    ours: list[float] = []
    stock: list[float] = []
    others: list[float] = []
    for run in range(RUNS_MIN + 1):
        # The first run of each warms caches and is not counted.
        kept = slice(0, None) if run else slice(0, 0)
        ours += [measure([*own, "ours"], EVENTS)][kept]
        stock += [measure([*own, "stock"], EVENTS_STOCK)][kept]
        if node is not None:
            others += [measure([node, "-e", NODE], EVENTS)][kept]
    peers = {
        "quart-trio on hypercorn": statistics.median(stock),
        "Node http": statistics.median(others) if others else None,
    }
    name = f"SSE fan-out, {SUBSCRIBERS} subscribers"
    return [row(name, "events/s", ours, peers=peers, target="PERF-20: >= 1.0x Node http")]


benchmarks = [fanout]
