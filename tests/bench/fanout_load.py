"""The load generator of bench_fanout: opens streams and only counts bytes.

    python -m tests.bench.fanout_load PORT SUBSCRIBERS

Prints `ready` once every stream sent something, then bytes and seconds when all have ended.
"""

from __future__ import annotations

import selectors
import socket
import sys
import time


def main() -> None:
    port, count = int(sys.argv[1]), int(sys.argv[2])
    selector = selectors.DefaultSelector()
    for n in range(count):
        client = socket.create_connection(("127.0.0.1", port))
        client.sendall(b"GET /events?tab=t%d HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % (n, port))
        client.setblocking(False)
        selector.register(client, selectors.EVENT_READ)
    silent = {key.fileobj for key in selector.get_map().values()}
    total, began, last = 0, 0.0, 0.0
    while selector.get_map():
        for key, _ in selector.select():
            assert isinstance(key.fileobj, socket.socket)
            data = key.fileobj.recv(262_144)
            if not data:
                selector.unregister(key.fileobj)
                key.fileobj.close()
                continue
            if b"\n\n" in data and key.fileobj in silent:
                silent.discard(key.fileobj)
                if not silent:
                    print("ready", flush=True)
                continue
            last = time.perf_counter()
            began = began or last
            total += len(data)
    print(total, last - began, flush=True)


if __name__ == "__main__":
    main()
