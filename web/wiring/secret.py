"""The secret all keys are derived from: given by the operator, or made once and kept.

A made secret lies in the state folder, readable by its owner only, so that sessions
survive a restart (SITE-181).
"""

import os
import secrets
from pathlib import Path

from actors.runtime import Secret
from web.settings import SECRET_BYTES_MIN, Settings

FILE_NAME = "session-secret"


class SecretUnusable(Exception):
    """Raised when the kept secret cannot be read or is too short; nothing was started."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(
            f"STATE_DIR: {path} {problem}; remove it to have a new secret made (all visitors "
            "get new sessions), or give SESSION_SECRET"
        )
        self.path = path


def load_secret(settings: Settings) -> Secret[bytes]:
    """Call this to get the secret: the setting, else the kept one, else a new one, kept.

    The state folder is there already. Raises `SecretUnusable`.
    """
    if settings.session_secret is not None:
        return settings.session_secret
    path = settings.state_dir / FILE_NAME
    _make(path)
    # Read back in every case: of two processes that made one each, the linked one is the secret.
    try:
        secret = Secret(path.read_bytes())
    except OSError as error:
        raise SecretUnusable(path, f"cannot be read ({error.strerror})") from error
    size = len(secret.reveal())
    if size < SECRET_BYTES_MIN:
        raise SecretUnusable(path, f"holds only {size} bytes")
    return secret


def _make(path: Path) -> None:
    # Written whole under another name, then linked: two processes that start together
    # agree on the first one, and a crash leaves no half secret.
    if path.exists():
        return
    scratch = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(SECRET_BYTES_MIN))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(scratch, path)
        except FileExistsError:
            pass
    except OSError as error:
        raise SecretUnusable(path, f"cannot be written ({error.strerror})") from error
    finally:
        scratch.unlink(missing_ok=True)
