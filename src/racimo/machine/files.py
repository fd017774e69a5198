"""Configuration files of this machine: read and replaced as a whole."""

from __future__ import annotations

import hashlib
import os
import secrets
from typing import TYPE_CHECKING

from racimo.errors import Conflict, OperationFailed

if TYPE_CHECKING:
    from pathlib import Path


def read_text(path: Path) -> str:
    """The file's text; empty when there is none. Raises ``OperationFailed``."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise OperationFailed(f"{path} cannot be read", why=str(error)) from error


def replace_text(path: Path, text: str, mode: int = 0o644) -> None:
    """Put ``text`` there: readers see the old file or the new one, never a part. Raises ``OperationFailed``."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise OperationFailed(
            f"{path} was not changed", why=str(error), todo="Is the file system full, or read-only?"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def digest(text: str) -> str:
    """What clients send back to say which text they changed: its SHA-1."""
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def demand_unchanged(text: str, known: str) -> None:
    """Raises ``Conflict`` when ``known`` is given and is not the digest of ``text``."""
    if known and known != digest(text):
        raise Conflict("detected modified configuration - file changed by other user? Try again")
