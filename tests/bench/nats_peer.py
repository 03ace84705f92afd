"""The library's own request and reply, one by one, as `bench_peers` is compared with."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

import nats
import uvloop
from nats.aio.msg import Msg

SUBJECT = "gr.bench.peer"
ALONE, ASKERS, EACH = 2000, 64, 200


async def _main(role: str, url: str, user: str, password: str) -> None:
    # Its own inboxes are beyond what the documented file permits.
    client = await nats.connect(url, user=user, password=password, inbox_prefix="gr.bench.inbox")
    if role == "serving":

        async def answer(message: Msg) -> None:
            await message.respond(message.data)

        await client.subscribe(SUBJECT, cb=answer)
        await client.flush()
        print("ready", flush=True)
        await asyncio.Event().wait()
    body = b"x" * 200
    took = []
    for _ in range(ALONE):
        began = time.perf_counter()
        await client.request(SUBJECT, body, timeout=10)
        took.append(time.perf_counter() - began)
    took.sort()

    async def ask() -> None:
        for _ in range(EACH):
            await client.request(SUBJECT, body, timeout=10)

    began = time.perf_counter()
    await asyncio.gather(*(ask() for _ in range(ASKERS)))
    rate = ASKERS * EACH / (time.perf_counter() - began)
    figures = {"alone_p50_ms": took[ALONE // 2] * 1000, "asks_per_s": rate}
    print(json.dumps(figures), flush=True)
    await client.close()


if __name__ == "__main__":
    role, url, user, password_file = sys.argv[1:]
    uvloop.run(_main(role, url, user, Path(password_file).read_text()))
