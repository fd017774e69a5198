"""Tickets: signed proofs of a login, in the form that the Proxmox VE API's clients hand back.

``PVE:name@realm:HEXTIME::SIGNATURE`` says who and when. The signature is an HMAC-SHA256 under a key that all nodes
have; it covers what the ticket is for, so none serves for anything else. Replaying a ticket gives no more than the
login gave, and nothing once its time is over.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import quote

LIFETIME = 7200
"""Seconds for which a ticket, and a token against forged requests, is good."""
CHALLENGE_LIFETIME = 300
"""Seconds in which the second factor must follow the password."""
AHEAD = 300
"""Seconds by which the clock of the node that signed may be ahead."""
MAX_LENGTH = 4096
"""Characters of a ticket that is looked at."""
_CHALLENGE = "!tfa!"
_TIME = re.compile(r"[0-9A-F]{8,9}")


class _For(StrEnum):
    LOGIN = "login"
    CHALLENGE = "second-factor"
    FORM = "form"


@dataclass(frozen=True, slots=True)
class Ticket:
    """A ticket that was signed here: whose, and made when, in seconds since the epoch."""

    user: str
    made: int


class TicketSigner:
    """Signs and checks with ``key``. Times are in seconds since the epoch."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def ticket(self, user: str, now: float) -> str:
        """A ticket for ``user``."""
        plain = f"PVE:{user}:{int(now):08X}"
        return f"{plain}::{self._signature(_For.LOGIN, plain)}"

    def read(self, ticket: str, now: float) -> Ticket | None:
        """Whose ticket it is; None when it is forged, malformed, too old, or from the future."""
        plain, signature = _parted(ticket)
        prefix, _, rest = plain.partition(":")
        user, _, made = rest.rpartition(":")
        if prefix != "PVE" or not user or user.startswith("!") or not self._signed(_For.LOGIN, plain, signature):
            return None
        return _in_time(user, made, now, LIFETIME)

    def challenge(self, user: str, kinds: str, now: float) -> str:
        """A proof that ``user`` gave the right password. ``kinds`` tells the client which second factors there are."""
        plain = f"PVE:{_CHALLENGE}{quote(kinds, safe='')}:{int(now):08X}"
        return f"{plain}::{self._signature(_For.CHALLENGE, plain, user)}"

    def read_challenge(self, ticket: str, user: str, now: float) -> Ticket | None:
        """The challenge, if it was made for ``user`` and is still good."""
        plain, signature = _parted(ticket)
        prefix, _, rest = plain.partition(":")
        kinds, _, made = rest.rpartition(":")
        if prefix != "PVE" or not kinds.startswith(_CHALLENGE):
            return None
        if not self._signed(_For.CHALLENGE, plain, signature, user):
            return None
        return _in_time(user, made, now, CHALLENGE_LIFETIME)

    def form_token(self, user: str, now: float) -> str:
        """What a page must send beside the cookie, so that no other site's page can act in the user's name."""
        made = f"{int(now):08X}"
        return f"{made}:{self._signature(_For.FORM, made, user)}"

    def is_form_token(self, token: str, user: str, now: float) -> bool:
        """Whether it was made for ``user`` and is still good."""
        made, _, signature = token[:MAX_LENGTH].partition(":")
        return self._signed(_For.FORM, made, signature, user) and _in_time(user, made, now, LIFETIME) is not None

    def _signature(self, purpose: _For, *parts: str) -> str:
        message = "\x00".join([str(purpose), *parts]).encode(errors="surrogatepass")
        return base64.b64encode(hmac.digest(self._key, message, hashlib.sha256)).decode()

    def _signed(self, purpose: _For, plain: str, signature: str, *more: str) -> bool:
        right = self._signature(purpose, plain, *more)
        return hmac.compare_digest(right.encode(), signature.encode(errors="surrogatepass"))


def _parted(ticket: str) -> tuple[str, str]:
    plain, _, signature = ticket[:MAX_LENGTH].rpartition("::")
    return plain, signature


def _in_time(user: str, made: str, now: float, lifetime: int) -> Ticket | None:
    if _TIME.fullmatch(made) is None:
        return None
    age = now - int(made, 16)
    return Ticket(user, int(made, 16)) if -AHEAD <= age <= lifetime else None
