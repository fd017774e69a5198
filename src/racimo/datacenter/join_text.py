"""The join text: all that a machine needs to join, as one line to paste: ``racimo-join-1.<base64url>``.

It carries a one-time secret (the store keeps only its digest), the fingerprint of the authority, and where to ask.
Its length in front tells a text that was cut off, eight bytes of SHA-256 at the end one that was altered.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import hashlib
import secrets
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from racimo.datacenter.authority import fingerprint
from racimo.datacenter.standalone import CA, SETTINGS
from racimo.errors import BadRequest, Refused, Unauthorised
from racimo.model.datacenter import JoinToken

if TYPE_CHECKING:
    from racimo.store.collection import Held
    from racimo.store.layout import Layout

PREFIX = "racimo-join-1."
LIFE_S = 3600.0
KEPT_S = 86400.0
"""A used or expired token is remembered for a day, so that a late attempt is told what is wrong."""
CHECK_BYTES, LENGTH_BYTES = 8, 2


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class JoinText:
    """What the text says. ``expires`` in seconds since the epoch; ``fingerprint`` is the authority's."""

    datacenter: str
    name: str
    addresses: tuple[str, ...]
    fingerprint: str
    secret: str
    expires: float
    witness: bool = False


_ADAPTER = TypeAdapter(JoinText)
_NEW_ONE = "Make a new one on a member with: racimo cluster join-info"


def write_text(text: JoinText) -> str:
    """The pasteable line."""
    body = _ADAPTER.dump_json(text)
    raw = len(body).to_bytes(LENGTH_BYTES, "big") + body + _check(body)
    return PREFIX + base64.urlsafe_b64encode(raw).decode().rstrip("=")


def read_text(pasted: str) -> JoinText:
    """What a pasted line says. Raises ``BadRequest``: not a join text, of another version, cut off, or altered."""
    line = "".join(pasted.split())
    if not line.startswith(PREFIX):
        if PREFIX.startswith(line) and line:
            raise _truncated()
        if line.startswith("racimo-join-"):
            raise BadRequest("The join text is of another version of Racimo", todo=_NEW_ONE)
        raise BadRequest("This is not a join text", why=f"it does not begin with '{PREFIX}'", todo=_NEW_ONE)
    encoded = line.removeprefix(PREFIX)
    try:
        raw = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
    except binascii.Error:
        if len(encoded) % 4 == 1:
            raise _truncated() from None
        raise BadRequest("The join text is malformed", why="it holds characters that none has", todo=_NEW_ONE) from None
    length = int.from_bytes(raw[:LENGTH_BYTES], "big")
    body, check = raw[LENGTH_BYTES : LENGTH_BYTES + length], raw[LENGTH_BYTES + length :]
    if len(raw) < LENGTH_BYTES or len(check) < CHECK_BYTES:
        raise _truncated()
    if not secrets.compare_digest(check, _check(body)):
        raise BadRequest("The join text is malformed", why="its checksum is wrong", todo=_NEW_ONE)
    try:
        return _ADAPTER.validate_json(body)
    except ValidationError as error:
        raise BadRequest(
            "The join text is malformed", why=f"{error.error_count()} of its fields are wrong", todo=_NEW_ONE
        ) from error


def check_fresh(text: JoinText, now: float) -> None:
    """Raise ``Unauthorised`` when the text has expired by this machine's clock."""
    if now > text.expires:
        raise _expired(now - text.expires)


async def new_join_text(layout: Layout, now: float, *, life: float = LIFE_S, witness: bool = False) -> str:
    """A fresh one-time text, good for ``life`` seconds. Raises ``Refused`` on a node that stands alone."""
    datacenter = await layout.datacenter.get(SETTINGS)
    if not datacenter.clustered:
        raise Refused(
            "There is no cluster to join here",
            why="this node stands alone",
            todo="Run first: racimo cluster create NAME",
        )
    secret = secrets.token_urlsafe(24)
    held = await layout.join_tokens.all()
    old = [token.key for token in held.values() if token.record.expires + KEPT_S < now]
    token = JoinToken(digest=digest(secret), expires=now + life, witness=witness)
    await layout.store.txn(puts=[layout.join_tokens.put(token.digest, token)], deletes=old[:100])
    nodes = sorted(await layout.nodes.records(), key=lambda node: (not node.voter, node.name))
    return write_text(
        JoinText(
            datacenter=datacenter.id,
            name=datacenter.name,
            addresses=tuple(node.address for node in nodes if not node.witness)[:5],
            fingerprint=fingerprint((await layout.authority.get(CA)).certificate),
            secret=secret,
            expires=token.expires,
            witness=witness,
        )
    )


async def check_token(layout: Layout, secret: str, node_id: str, now: float, *, witness: bool) -> Held[JoinToken]:
    """The token of ``secret``, if ``node_id`` may join with it: unused, or used by this very node before.

    Raises ``Unauthorised`` for one that is unknown, expired, used by another, or meant for the other kind of machine.
    """
    token = await layout.join_tokens.find(digest(secret))
    if token is None:
        raise Unauthorised(
            "The join text is not known to this cluster", why="it is for another one, or long expired", todo=_NEW_ONE
        )
    if token.record.used_by and token.record.used_by != node_id:
        raise Unauthorised("The join text was used already", why="each is good for one machine", todo=_NEW_ONE)
    if not token.record.used_by and now > token.record.expires:
        raise _expired(now - token.record.expires)
    if token.record.witness != witness:
        kind, command = ("witness", "witness TEXT") if token.record.witness else ("node", "join TEXT")
        raise Unauthorised(f"The join text is for a {kind}", todo=f"Use it with: racimo cluster {command}")
    return token


def digest(secret: str) -> str:
    """What the store keeps of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _check(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()[:CHECK_BYTES]


def _truncated() -> BadRequest:
    return BadRequest(
        "The join text is cut off", why="its end is missing", todo="Copy the whole line, to its last character"
    )


def _expired(ago: float) -> Unauthorised:
    return Unauthorised("The join text has expired", why=f"{ago:.0f} s ago", todo=_NEW_ONE)
