"""The secret of sessions, and the master key of private texts: given, or made once and kept.

What is made lies in the state folder, readable by its owner only, so that sessions survive a
restart (SITE-181) and texts can be read after it (STORE-44).
"""

import os
import secrets
from pathlib import Path

from actors.runtime import Secret
from web.settings import PRIVATE_KEY_BYTES, SECRET_BYTES_MIN, Settings

FILE_NAME = "session-secret"
PRIVATE_FILE_NAME = "private-key"


class SecretUnusable(Exception):
    """Raised when a kept secret cannot be read or is too short; nothing was started."""

    def __init__(self, path: Path, problem: str, remedy: str) -> None:
        super().__init__(f"STATE_DIR: {path} {problem}; {remedy}")
        self.path = path


_REMEDIES = {
    FILE_NAME: "remove it to have a new secret made (all visitors get new sessions), or give "
    "SESSION_SECRET",
    PRIVATE_FILE_NAME: "restore it from where you keep it, or give PRIVATE_KEY; without it no text "
    "of the chat can be read",
}


def load_secret(settings: Settings) -> Secret[bytes]:
    """Call this to get the secret: the setting, else the kept one, else a new one, kept.

    The state folder is there already. Raises `SecretUnusable`.
    """
    if settings.session_secret is not None:
        return settings.session_secret
    return _load(settings.state_dir / FILE_NAME, SECRET_BYTES_MIN)


def load_private_key(settings: Settings) -> Secret[bytes]:
    """Call this as `load_secret`, for the key that wraps those of private texts."""
    if settings.private_key is not None:
        return settings.private_key
    kept = _load(settings.state_dir / PRIVATE_FILE_NAME, PRIVATE_KEY_BYTES)
    return Secret(kept.reveal()[:PRIVATE_KEY_BYTES])


def _load(path: Path, size: int) -> Secret[bytes]:
    _make(path, size)
    # Read back in every case: of two processes that made one each, the linked one is the secret.
    try:
        secret = Secret(path.read_bytes())
    except OSError as error:
        problem = f"cannot be read ({error.strerror})"
        raise SecretUnusable(path, problem, _REMEDIES[path.name]) from error
    found = len(secret.reveal())
    if found < size:
        raise SecretUnusable(path, f"holds only {found} bytes", _REMEDIES[path.name])
    return secret


def _make(path: Path, size: int) -> None:
    # Written whole under another name, then linked: two processes that start together
    # agree on the first one, and a crash leaves no half secret.
    if path.exists():
        return
    scratch = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(size))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(scratch, path)
        except FileExistsError:
            pass
    except OSError as error:
        problem = f"cannot be written ({error.strerror})"
        raise SecretUnusable(path, problem, _REMEDIES[path.name]) from error
    finally:
        scratch.unlink(missing_ok=True)
