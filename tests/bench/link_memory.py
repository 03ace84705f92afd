"""What a link that hears many topics costs a process: run by `bench_link.py`, in one of its own.

Prints MiB of resident memory that the link added, its library and its loop included.
"""

import sys
from pathlib import Path

import trio

PAGE_BYTES = 4096
_STATM = Path("/proc/self/statm")
_MIB = 1024 * 1024


def _resident_mib() -> float:
    return int(_STATM.read_text(encoding="ascii").split()[1]) * PAGE_BYTES / _MIB


async def _measure(url: str, password_file: str, topics: int) -> float:
    before = _resident_mib()
    from pathlib import Path

    # Imported here: the library counts.
    from storage.link.nats import open_nats_link
    from storage.link.nats_words import NatsCredentials, NatsSettings

    credentials = NatsCredentials(user="node", password_file=Path(password_file))
    async with open_nats_link(NatsSettings((url,), credentials=credentials)) as link:
        for number in range(topics):
            await link.subscribe(f"gr.greenroom.t.topic-{number}", lambda _: None)
        await trio.sleep(0.5)
        return _resident_mib() - before


if __name__ == "__main__":
    print(trio.run(_measure, sys.argv[1], sys.argv[2], int(sys.argv[3])))
