"""Records of access control: who there is, who may do what where, and what proves that somebody is who they say.

What proves it (hashes, sealed secrets) stands in records of its own, so that lists of users never touch it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from racimo.model.record import SEALED, Record

ROOT_USER = "root@pam"
"""May do everything, and needs no record."""


class RealmType(StrEnum):
    """How a realm finds out whether a password is right. Names are those of the Proxmox VE API."""

    PAM = "pam"
    """The Linux accounts of the node that is asked."""
    PVE = "pve"
    """Passwords kept by Racimo."""


class Grantee(StrEnum):
    """Whom an entry of the ACL is about."""

    USER = "user"
    GROUP = "group"
    TOKEN = "token"  # noqa: S105 - a kind


class FactorKind(StrEnum):
    """The kinds of second factors. Names are those of the Proxmox VE API."""

    TOTP = "totp"
    RECOVERY = "recovery"


@dataclass(frozen=True, slots=True, kw_only=True)
class User(Record):
    """One user, named ``name@realm``. Times are in seconds since the epoch."""

    name: str
    enable: bool = True
    expire: int = 0
    """0: never."""
    groups: tuple[str, ...] = ()
    firstname: str = ""
    lastname: str = ""
    email: str = ""
    comment: str = ""
    keys: str = ""
    """What clients keep here; Racimo does not look at it."""
    tickets_from: float = 0.0
    """Tickets made before are refused: the user was made, disabled, or given a new password then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group(Record):
    """A group; its members say so in their own records."""

    name: str
    comment: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Role(Record):
    """A role that an administrator made; the built-in ones are in ``racimo.access.privileges``."""

    name: str
    privileges: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AclEntry(Record):
    """``grantee`` has ``role`` on ``path``, and with ``propagate`` below it too."""

    path: str
    kind: Grantee
    grantee: str
    """``name@realm``, a group, or ``name@realm!token``."""
    role: str
    propagate: bool = True

    @property
    def id(self) -> str:
        """The entry's name among the records."""
        return f"{self.kind}/{self.grantee}/{self.role}{self.path}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool(Record):
    """Guests and storages on which the roles of ``/pool/{name}`` count too. ``a/b`` is a pool inside ``a``."""

    name: str
    comment: str = ""
    guests: tuple[int, ...] = ()
    storages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Token(Record):
    """An API token. ``digest`` is the SHA-256 of its secret, which is random and long: nobody can try them all."""

    user: str
    name: str
    digest: str = field(default="", repr=False)
    privsep: bool = True
    """Whether it may only what both its user and it may; else all that its user may."""
    expire: int = 0
    comment: str = ""

    @property
    def id(self) -> str:
        """``name@realm!token``."""
        return f"{self.user}!{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Realm(Record):
    """Settings of a realm. ``pam`` and ``pve`` are there without a record."""

    name: str
    type: RealmType
    comment: str = ""
    default: bool = False
    """The one that is offered first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Password(Record):
    """The argon2id hash of a user of the realm ``pve``."""

    user: str
    hash: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondFactor(Record):
    """One second factor of a user. ``secret`` is sealed; ``keys`` are hashes of the recovery keys still unused."""

    user: str
    id: str
    kind: FactorKind
    description: str = ""
    created: float = 0.0
    enable: bool = True
    secret: str = field(default="", repr=False, metadata={SEALED: True})
    keys: dict[str, str] = field(default_factory=dict, repr=False)
    """By number, from 0."""
    last_step: int = 0
    """The time step of the last code that was taken; no code of that step or an earlier one is taken again."""

    @property
    def key(self) -> str:
        """The factor's name among the records."""
        return f"{self.user}/{self.id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TicketKey(Record):
    """What tickets are signed with, the same on all nodes; sealed."""

    secret: str = field(default="", repr=False, metadata={SEALED: True})
    created: float = 0.0
