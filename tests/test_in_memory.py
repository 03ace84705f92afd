"""The suite keeps its folders in memory only where there is room."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import in_memory

PLENTY = f"MemTotal: 1 kB\nMemAvailable:    {in_memory.ROOM_BYTES // 1024} kB\n"
LITTLE = f"MemAvailable:    {in_memory.ROOM_BYTES // 1024 - 1} kB\n"


@pytest.mark.parametrize("said", [LITTLE, "MemAvailable: some\n", "nothing of the kind: 1 kB\n"])
def test_without_memory_to_spare_the_disk_is_used(tmp_path: Path, said: str) -> None:
    memory = tmp_path / "meminfo"
    memory.write_text(said)
    assert in_memory.folder(tmp_path, memory) is None


def test_what_is_not_there_is_not_used(tmp_path: Path) -> None:
    memory = tmp_path / "meminfo"
    assert in_memory.folder(tmp_path, memory) is None
    memory.write_text(PLENTY)
    assert in_memory.folder(tmp_path / "none", memory) is None


def test_where_there_is_room_it_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = tmp_path / "meminfo"
    memory.write_text(PLENTY)
    monkeypatch.setattr(in_memory, "ROOM_BYTES", 1)
    assert in_memory.folder(tmp_path, memory) == tmp_path
