"""Ids rise and have their form; the kept secret is private and survives."""

import os
import stat
import sys
import threading
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from actors.runtime import Secret
from web.settings import Settings
from web.wiring.environment import SystemClock, SystemIds
from web.wiring.secret import (
    FILE_NAME,
    PRIVATE_FILE_NAME,
    SecretUnusable,
    load_private_key,
    load_secret,
)


def test_ids_are_uuid7_and_rise() -> None:
    ids = SystemIds()
    made = [ids.new_id() for _ in range(5000)]
    assert made == sorted(made)
    assert len(set(made)) == len(made)
    assert all(one.version == 7 and one.variant == "specified in RFC 4122" for one in made)


def test_ids_carry_the_time() -> None:
    made, now = SystemIds().new_id(), SystemClock().now()
    assert abs((made.int >> 80) / 1000 - now.timestamp()) < 5


def test_ids_are_unique_over_threads() -> None:
    ids, made, lock = SystemIds(), set[UUID](), threading.Lock()

    def work() -> None:
        mine = [ids.new_id() for _ in range(1000)]
        with lock:
            made.update(mine)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 4000


def test_the_chance_of_ids_is_drawn_once_for_many_and_anew_in_a_child(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn, chance = list[int](), bytes(range(256)) * 2

    def draw(size: int) -> bytes:
        drawn.append(size)
        return chance

    monkeypatch.setattr("os.urandom", draw)
    ids = SystemIds()
    made = [ids.new_id() for _ in range(64)]
    assert drawn == [512]
    pieces = [int.from_bytes(chance[n : n + 8], sys.byteorder) for n in range(0, 512, 8)]
    # Each piece of it is one id's, but for the two bits that say what kind of id it is.
    assert sorted(one.int & (1 << 62) - 1 for one in made) == sorted(one >> 2 for one in pieces)
    ids.new_id()
    assert drawn == [512, 512]
    child = os.fork()
    if not child:
        ids.new_id()
        os._exit(len(drawn))
    ids.new_id()
    assert (os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), len(drawn)) == (3, 2)


def test_the_secret_is_made_once_and_private(tmp_path: Path) -> None:  # SITE-181 SEC-125
    settings = Settings(state_dir=tmp_path)
    secret = load_secret(settings)
    assert len(secret.reveal()) == 64
    assert load_secret(settings) == secret
    assert stat.S_IMODE((tmp_path / FILE_NAME).stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


def test_a_given_secret_makes_no_file(tmp_path: Path) -> None:
    settings = replace(Settings(state_dir=tmp_path), session_secret=Secret(b"x" * 64))
    assert load_secret(settings).reveal() == b"x" * 64
    assert not list(tmp_path.iterdir())


def test_a_cut_secret_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"short")
    with pytest.raises(SecretUnusable, match="holds only 5 bytes"):
        load_secret(Settings(state_dir=tmp_path))


def test_the_key_of_private_texts_is_made_once_or_given(tmp_path: Path) -> None:  # STORE-44
    settings = Settings(state_dir=tmp_path)
    key = load_private_key(settings)
    assert len(key.reveal()) == 32
    assert load_private_key(settings) == key
    assert stat.S_IMODE((tmp_path / PRIVATE_FILE_NAME).stat().st_mode) == 0o600
    given = replace(settings, private_key=Secret(b"k" * 32))
    assert load_private_key(given).reveal() == b"k" * 32
    (tmp_path / PRIVATE_FILE_NAME).write_bytes(b"short")
    with pytest.raises(SecretUnusable, match="restore it from where you keep it"):
        load_private_key(settings)


def test_an_unwritable_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(SecretUnusable, match="cannot be written"):
        load_secret(Settings(state_dir=tmp_path / "missing"))
