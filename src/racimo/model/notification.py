"""Records of notifications: where they go, which go there, and what was said already."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from racimo.model.record import SEALED, Record


class TargetKind(StrEnum):
    """How a target is reached. Names are those of the Proxmox VE API."""

    SMTP = "smtp"
    WEBHOOK = "webhook"
    SENDMAIL = "sendmail"


class MailSecurity(StrEnum):
    """How the connection to a mail server is kept from listeners. Names are those of the Proxmox VE API."""

    INSECURE = "insecure"
    STARTTLS = "starttls"
    TLS = "tls"


class Severity(StrEnum):
    """How bad it is. Names are those of the Proxmox VE API."""

    INFO = "info"
    NOTICE = "notice"
    WARNING = "warning"
    ERROR = "error"


class EventType(StrEnum):
    """What a notification is about: the field ``type`` of matchers. ``fencing`` is a name of the Proxmox VE API."""

    FENCING = "fencing"
    RECOVERY = "recovery"
    SERVICE_ERROR = "service-error"
    QUORUM = "quorum"
    CERTIFICATE = "certificate"
    TASK = "task"
    TEST = "test"


class Origin(StrEnum):
    """Who made a target or a matcher. Names are those of the Proxmox VE API."""

    BUILTIN = "builtin"
    MODIFIED = "modified-builtin"
    USER = "user-created"


class MatchMode(StrEnum):
    """Whether one of a matcher's conditions is enough."""

    ALL = "all"
    ANY = "any"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target(Record):
    """One place where notifications go. Which fields count depends on ``kind``.

    ``password``, the values of ``headers`` and ``secrets`` are sealed, in the store as in memory: only what delivers a
    message opens them. Nobody is shown them, and no log has them.
    """

    name: str
    kind: TargetKind
    origin: Origin = Origin.USER
    """``BUILTIN``: as the datacenter was made with it; passed over where the node has no mail program."""
    disable: bool = False
    comment: str = ""
    mailto: tuple[str, ...] = ()
    from_address: str = ""
    author: str = ""
    """The name beside the sender's address; empty: the datacenter's."""
    server: str = ""
    port: int = 0
    """0: the usual one for ``mode`` (25, 587 or 465)."""
    mode: MailSecurity = MailSecurity.TLS
    username: str = ""
    password: str = field(default="", repr=False, metadata={SEALED: True})
    url: str = field(default="", repr=False)
    """May hold ``{{ secrets.NAME }}``, like ``headers`` and ``body``."""
    method: str = "post"
    headers: dict[str, str] = field(default_factory=dict, repr=False, metadata={SEALED: True})
    body: str = ""
    """A template; empty: the whole message as one JSON object."""
    secrets: dict[str, str] = field(default_factory=dict, repr=False, metadata={SEALED: True})


@dataclass(frozen=True, slots=True, kw_only=True)
class Matcher(Record):
    """Which messages go to which targets. One without conditions matches all."""

    name: str
    origin: Origin = Origin.USER
    targets: tuple[str, ...] = ()
    severities: tuple[Severity, ...] = ()
    """Any of these; empty: no condition."""
    fields: tuple[str, ...] = ()
    """Each one condition: ``exact:FIELD=VALUE,VALUE`` or ``regex:FIELD=PATTERN``."""
    calendar: tuple[str, ...] = ()
    """Any of these times, in the sending node's zone: ``mon..fri 8:00-17:00``, ``22:00-6:00``, ``sat,sun``."""
    mode: MatchMode = MatchMode.ALL
    invert: bool = False
    disable: bool = False
    comment: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said(Record):
    """What holds and was said, until it is said that it is over. Named by ``key``: made once, so said once."""

    key: str
    type: EventType
    title: str
    fields: dict[str, str] = field(default_factory=dict)
    targets: tuple[str, ...] = ()
    """Who was told: they hear the end too."""
    message: str = ""
    """The message that said it."""
    since: float = 0.0
    """Seconds since the epoch; for people only, and to forget failed tasks that nobody tries again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message(Record):
    """One message on its way. Named by ``id``, which sorts by age; removed when every target has had it."""

    id: str
    type: EventType
    severity: Severity
    title: str
    text: str
    fields: dict[str, str] = field(default_factory=dict)
    over: bool = False
    """It says that something is over."""
    about: str = ""
    """With ``over``: the message that said that it began."""
    at: float = 0.0
    """Seconds since the epoch."""
    by: str = ""
    """The node that noticed."""
    targets: tuple[str, ...] = ()
    """Who has not had it yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetState(Record):
    """Whether the last delivery to a target went well."""

    target: str
    ok: bool
    why: str = ""
    by: str = ""
    """The node that tried."""
    since: float = 0.0
    """When it began to be so, in seconds since the epoch; for people only."""


MAIL_TO_ROOT = Target(
    name="mail-to-root", kind=TargetKind.SENDMAIL, origin=Origin.BUILTIN, mailto=("root",),
    comment="root's mail, by the mail program of the node that sends",
)  # fmt: skip
DEFAULT_MATCHER = Matcher(
    name="default-matcher", origin=Origin.BUILTIN, targets=(MAIL_TO_ROOT.name,), comment="Everything, to root's mail"
)
"""What a new datacenter begins with. To be changed, switched off or removed like any other."""
