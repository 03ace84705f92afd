"""Mails as files: each whole or not at all, for its owner only."""

from __future__ import annotations

import stat
from pathlib import Path
from uuid import uuid4

import pytest
import trio

from web.mail.answers import Verdict
from web.mail.senders.file import FileSender
from web.mail.senders.port import Outgoing, SenderTrouble
from web.mail.words import Mail

MAIL = Mail("a@example.org", "greeting", "en", "Hello", "", "")


async def _yes() -> bool:
    return True


def test_a_mail_is_a_file_that_its_owner_reads(tmp_path: Path) -> None:
    # MAIL-3
    folder, outgoing = tmp_path / "mails", Outgoing(uuid4(), MAIL, b"whole")
    answer = trio.run(FileSender(folder).send, outgoing, _yes)
    assert answer.verdict is Verdict.SENT
    file = folder / f"{outgoing.message_id}.eml"
    assert list(folder.iterdir()) == [file]
    assert file.read_bytes() == b"whole"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_of_a_mail_that_cannot_be_written_nothing_stays(tmp_path: Path) -> None:
    # MAIL-3: it is tried again, and would fill the disk with its pieces
    outgoing = Outgoing(uuid4(), MAIL, b"whole")
    in_its_place = tmp_path / f"{outgoing.message_id}.eml"
    in_its_place.mkdir()
    with pytest.raises(SenderTrouble):
        trio.run(FileSender(tmp_path).send, outgoing, _yes)
    assert list(tmp_path.iterdir()) == [in_its_place]
