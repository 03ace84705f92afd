"""Where the suite keeps its temporary folders: in memory, when the machine has room for them.

A test with a database copies three hundred files for it. On a disk that costs the kernel a tenth of
a second, and several times that on a busy machine; in memory a fiftieth.
"""

from __future__ import annotations

import os
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")

# Four processes with a server each, and the sites of the tests at work: some 2 GB were seen.
ROOM_BYTES = 4 * 1024**3


def folder(shared: Path = SHARED_MEMORY, memory: Path = Path("/proc/meminfo")) -> Path | None:
    """Call this for the folder to use, or None: the disk, where there is no such room."""
    try:
        there = os.statvfs(shared)
        known = dict(line.split(":", 1) for line in memory.read_text().splitlines())
        available = int(known["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None
    # Tests run programs that they have written.
    runs_programs = not there.f_flag & os.ST_NOEXEC
    is_writable = os.access(shared, os.W_OK | os.X_OK)
    has_room = min(there.f_bavail * there.f_frsize, available) >= ROOM_BYTES
    return shared if runs_programs and is_writable and has_room else None
