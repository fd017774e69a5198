"""Secrets in the store stand sealed: AES-256-GCM under a key that the nodes keep in a file and the store does not hold.

A field of a record is sealed if its metadata says ``SEALED``. The sealed text is bound to the record's key in the store
and to the field: put anywhere else it does not open. Records go about sealed; whoever needs a secret opens it there.
Form: ``sealed:1:KEY-ID:BASE64(nonce, ciphertext and tag)``. A text without that prefix was written before there was
sealing, and is taken as it stands.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import hashlib
import json
import secrets
from typing import TYPE_CHECKING, Any, TypeVar

import structlog
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import TypeAdapter, ValidationError

from racimo.errors import Conflict, RacimoError, Refused
from racimo.model.record import SEALED, Record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

R = TypeVar("R", bound=Record)

log = structlog.get_logger()

PREFIX = "sealed:1:"
KEY_BYTES, NONCE_BYTES = 32, 12
ID_DIGITS = 16
KEPT = 8
"""So many keys a ring holds: older ones open backups that were taken before the key was changed."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SealingKey:
    """``key`` in base64. Its id says nothing about it, so that may stand in the store."""

    key: str = dataclasses.field(repr=False)

    @property
    def id(self) -> str:
        """16 hexadecimal digits."""
        return hashlib.sha256(b"racimo sealing key" + base64.b64decode(self.key)).hexdigest()[:ID_DIGITS]


def new_sealing_key() -> SealingKey:
    """One that nobody has yet."""
    return SealingKey(key=base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode())


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Keyring:
    """The keys of the datacenter with the id ``datacenter``. Older ones stay: they open what was sealed with them."""

    datacenter: str = ""
    current: str = ""
    """The id of the key that seals; empty while none is in force."""
    keys: tuple[SealingKey, ...] = ()

    def with_keys(self, more: Iterable[SealingKey], current: str) -> Keyring:
        """With ``more`` keys, the newest ``KEPT`` of all, and ``current`` the one that seals."""
        unlike = {key.id: key for key in (*more, *self.keys)}
        first = [unlike.pop(current)] if current in unlike else []
        return dataclasses.replace(self, current=current, keys=(*first, *unlike.values())[:KEPT])

    def find(self, key_id: str) -> SealingKey | None:
        """The key of that id."""
        return next((key for key in self.keys if key.id == key_id), None)


RING = TypeAdapter(Keyring)


class Sealing:
    """Seals and opens with the keys in ``file``, which is read again when a key is wanted that was not in it."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._ring = Keyring()
        self._stamp: tuple[int, int] | None = None
        self.reload()

    @property
    def ring(self) -> Keyring:
        """The keys as they were last read."""
        return self._ring

    def reload(self) -> Keyring:
        """Read the file anew if it is another one than before. One that is not there, or is no ring, holds no key."""
        try:
            stat = self.file.stat()
            stamp = stat.st_mtime_ns, stat.st_ino
            if stamp != self._stamp:
                self._stamp, self._ring = stamp, RING.validate_json(self.file.read_bytes())
        except FileNotFoundError:
            self._stamp, self._ring = None, Keyring()
        except (OSError, ValidationError) as error:
            why = str(error) if isinstance(error, OSError) else "it is not a ring of keys"  # whose words might show one
            log.warning("the sealing keys cannot be read", path=str(self.file), why=why)
            self._ring = Keyring()
        return self._ring

    # one text

    def seal(self, text: str, place: str) -> str:
        """``text`` sealed for ``place``; nothing stays nothing. Raises ``Conflict`` where no key is at hand."""
        if not text:
            return ""
        ring = self.reload()
        key = ring.find(ring.current)
        if key is None:
            raise Conflict(
                "The secret cannot be kept", why=f"this node has no sealing key yet ({self.file})",
                todo="Try again in some seconds; where no node has it any more: racimo cluster rotate-key --force",
            )  # fmt: skip
        nonce = secrets.token_bytes(NONCE_BYTES)
        sealed = AESGCM(base64.b64decode(key.key)).encrypt(nonce, text.encode(), place.encode())
        return f"{PREFIX}{key.id}:{base64.b64encode(nonce + sealed).decode()}"

    def open(self, sealed: str, place: str) -> str:
        """What was sealed for ``place``. ``Conflict``: its key is not here. ``Refused``: it is not what was sealed."""
        if not sealed.startswith(PREFIX):
            return sealed
        key_id, _, body = sealed.removeprefix(PREFIX).partition(":")
        key = self._ring.find(key_id) or self.reload().find(key_id)
        if key is None:
            raise Conflict(
                "A secret cannot be opened", why=f"this node's {self.file} lacks the key {key_id or '?'} of it",
                todo="It is fetched from any node that has it; if none has, run "
                "racimo cluster rotate-key --force and set the secret anew",
            )  # fmt: skip
        try:
            raw = base64.b64decode(body, validate=True)
            cipher = AESGCM(base64.b64decode(key.key))
            return cipher.decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], place.encode()).decode()
        except (InvalidTag, ValueError, binascii.Error):
            raise Refused(
                "A secret cannot be opened", why="it was altered, or sealed for another place than this",
                todo="Set the secret anew",
            ) from None  # fmt: skip

    # records

    def seal_record(self, key: str, record: R, before: R | None = None, opened: R | None = None) -> R:
        """``record`` sealed for ``key``. Secrets that are as in ``opened`` stay as they stand sealed in ``before``."""
        kept = dict(_secrets(before)) if before is not None else {}
        known = dict(_secrets(opened)) if opened is not None else {}

        def sealed(name: str, text: str) -> str:
            if known.get(name) == text and is_sealed(kept.get(name, "")):
                return kept[name]
            return self.seal(text, f"{key}#{name}")

        return _changed(record, sealed)

    def open_record(self, key: str, record: R) -> R:
        """``record`` with its secrets in the clear. Raises as ``open``."""
        return _changed(record, lambda name, text: self.open(text, f"{key}#{name}"))

    def open_what_opens(self, key: str, record: R) -> R:
        """``record`` with those secrets in the clear that can be opened here."""

        def opened(name: str, text: str) -> str:
            try:
                return self.open(text, f"{key}#{name}")
            except RacimoError:
                return text

        return _changed(record, opened)

    def renewed(self, key: str, record: R) -> tuple[R, list[str]]:
        """``record`` sealed with the key in force, and the names of the secrets that cannot be opened here."""
        lost: list[str] = []
        current = f"{PREFIX}{self.reload().current}:"

        def renew(name: str, text: str) -> str:
            if text.startswith(current):
                return text
            try:
                return self.seal(self.open(text, f"{key}#{name}"), f"{key}#{name}")
            except RacimoError:
                lost.append(name)
                return text

        return _changed(record, renew), lost


def is_sealed(text: str) -> bool:
    """Whether it is nothing that anybody could read."""
    return not text or text.startswith(PREFIX)


def is_sealed_with(key_id: str, record: Record) -> bool:
    """Whether all secrets of the record are sealed with that key."""
    return all(not text or text.startswith(f"{PREFIX}{key_id}:") for _, text in _secrets(record))


def has_secrets(kind: type[Record]) -> bool:
    """Whether records of this kind have fields that are sealed."""
    return any(field.metadata.get(SEALED) for field in dataclasses.fields(kind))


def _secrets(record: Record) -> Iterator[tuple[str, str]]:
    for field in _sealed_fields(record):
        value = getattr(record, field)
        if isinstance(value, dict):
            yield from ((f"{field}.{name}", text) for name, text in value.items())
        else:
            yield field, value


def _changed(record: R, change: Callable[[str, str], str]) -> R:
    """``record`` with each secret, named as ``password`` or ``secrets.token``, put through ``change``."""
    changes: dict[str, Any] = {}
    for field in _sealed_fields(record):
        value = getattr(record, field)
        if isinstance(value, dict):
            changes[field] = {name: change(f"{field}.{name}", text) for name, text in value.items()}
        else:
            changes[field] = change(field, value) if value else value
    return dataclasses.replace(record, **changes)


def _sealed_fields(record: Record) -> list[str]:
    return [field.name for field in dataclasses.fields(record) if field.metadata.get(SEALED)]


def dump_ring(ring: Keyring) -> bytes:
    """As it stands in the file."""
    return json.dumps(RING.dump_python(ring, mode="json"), indent=1).encode() + b"\n"
