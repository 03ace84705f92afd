"""Writes each mail to a file of its own, `ID.eml`, which any mail program opens."""

import os
from pathlib import Path

import trio

from web.mail.answers import Answer, Verdict
from web.mail.senders.port import BeforeLeaving, MayNotLeave, Outgoing, SenderTrouble

# They may hold what signs in.
FILE_MODE, FOLDER_MODE = 0o600, 0o700


class FileSender:
    """A folder instead of a server. A second copy of a mail takes the place of the first."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def send(self, outgoing: Outgoing, before_leaving: BeforeLeaving) -> Answer:
        """See `Sender.send`."""
        if not await before_leaving():
            raise MayNotLeave
        try:
            await trio.to_thread.run_sync(self._write, outgoing)
        except OSError as error:
            raise SenderTrouble(f"the folder of mails: {error.strerror}") from error
        return Answer(Verdict.SENT, "written to a file")

    async def close_idle(self) -> None:
        """See `Sender.close_idle`: nothing is kept open."""

    async def close(self) -> None:
        """See `Sender.close`."""

    def _write(self, outgoing: Outgoing) -> None:
        self._folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        path = self._folder / f"{outgoing.message_id}.eml"
        # Whole or not at all: a program may look at the folder meanwhile.
        half = path.with_suffix(".part")
        try:
            to = os.fdopen(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, FILE_MODE), "wb")
            with to:
                to.write(outgoing.data)
            half.replace(path)
        except OSError:
            # On a full disk each try of each mail would leave a piece of it, and a fuller disk.
            half.unlink(missing_ok=True)
            raise
