"""How users, groups, roles, tokens, pools and ACL paths are written."""

from __future__ import annotations

import re
from typing import NamedTuple

from racimo.errors import BadParameter

MAX_USER = 64
"""Characters of ``name@realm``."""
_REALM = r"[A-Za-z][A-Za-z0-9._-]{1,31}"
_USER = re.compile(rf"([^\s:/@!\x00-\x1f\x7f]+)@({_REALM})")
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_TOKEN = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}")
_POOL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}(/[A-Za-z0-9][A-Za-z0-9._-]{0,63}){0,2}")
_SEGMENT = re.compile(r"[A-Za-z0-9._@:!+-]{1,128}")
_ROOTS = frozenset({"access", "mapping", "nodes", "pool", "sdn", "storage", "vms"})
MAX_PATH = 8
"""Segments of an ACL path."""


class Asker(NamedTuple):
    """Somebody: a user, or one of the user's tokens."""

    user: str
    token: str = ""

    def __str__(self) -> str:
        return f"{self.user}!{self.token}" if self.token else self.user


def parse_asker(text: str) -> Asker:
    """``name@realm`` or ``name@realm!token``."""
    user, _, token = text.partition("!")
    return Asker(user, token)


def check_user(name: str, parameter: str = "userid") -> str:
    """``name``, if it is ``name@realm``. Raises ``BadParameter``."""
    if len(name) > MAX_USER or not name.isprintable() or _USER.fullmatch(name) is None:
        raise BadParameter({parameter: f"'{name[:80]}' is not a user; write NAME@REALM, such as anna@pve"})
    return name


def realm_of(user: str) -> str:
    """The part behind the ``@``."""
    return user.rpartition("@")[2]


def check_word(name: str, parameter: str) -> str:
    """``name``, if it may name a group, role or realm. Raises ``BadParameter``."""
    return _checked(name, parameter, _WORD, "letters, digits, dots, dashes and underscores")


def check_token(name: str, parameter: str = "tokenid") -> str:
    """``name``, if it may name a token. Raises ``BadParameter``."""
    return _checked(name, parameter, _TOKEN, "a letter, then letters, digits, dots, dashes and underscores")


def check_pool(name: str, parameter: str = "poolid") -> str:
    """``name``, if it may name a pool. Raises ``BadParameter``."""
    return _checked(name, parameter, _POOL, "letters, digits, dots, dashes and underscores; at most two slashes")


def check_path(path: str, parameter: str = "path") -> str:
    """An ACL path in the one way it is kept: no doubled or trailing slashes. Raises ``BadParameter``."""
    segments = segments_of(path)
    odd = [segment for segment in segments if segment in (".", "..") or _SEGMENT.fullmatch(segment) is None]
    if not path.startswith("/") or odd or len(segments) > MAX_PATH:
        raise BadParameter({parameter: f"invalid ACL path '{path[:80]}'; write it as /vms/100"})
    if segments and segments[0] not in _ROOTS:
        known = ", ".join(f"/{root}" for root in sorted(_ROOTS))
        raise BadParameter({parameter: f"invalid ACL path '{path[:80]}': permissions are looked up below {known}"})
    return "/" + "/".join(segments)


def segments_of(path: str) -> tuple[str, ...]:
    """The steps from the root to ``path``; none for ``/``."""
    return tuple(segment for segment in path.split("/") if segment)


def _checked(name: str, parameter: str, form: re.Pattern[str], allowed: str) -> str:
    if form.fullmatch(name) is None:
        raise BadParameter({parameter: f"'{name[:80]}' is not a name; allowed are {allowed}"})
    return name
