"""What a joining machine and a member say to each other, as JSON over HTTPS."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from pydantic import TypeAdapter

from racimo.model.guest import Guest, Runtime  # noqa: TC001 - pydantic needs them
from racimo.model.node import NodeFacts
from racimo.model.storage import Storage  # noqa: TC001


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinRequest:
    """A machine asks to join. The same request goes to check and, with ``csr``, to commit.

    ``node_id`` is drawn for this join: a commit that is repeated with the same one has the same effect as one.
    ``clock``: the machine's wall clock when it asked, in seconds since the epoch.
    """

    secret: str
    name: str
    node_id: str
    address: str
    witness: bool = False
    facts: NodeFacts = field(default_factory=NodeFacts)
    clock: float = 0.0
    guests: tuple[Guest, ...] = ()
    runtimes: tuple[Runtime, ...] = ()
    storages: tuple[Storage, ...] = ()
    networks: dict[str, str] = field(default_factory=dict)
    renumber: bool = False
    csr: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinCheck:
    """It may join. ``warnings`` name what is unlike; ``renumbered`` maps taken vmids to free ones."""

    datacenter: str
    name: str
    warnings: tuple[str, ...] = ()
    renumbered: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinGrant:
    """It has joined: its certificate, and where the store is. ``voter``: it is to run a member of the store."""

    datacenter: str
    name: str
    ca: str
    certificate: str
    endpoints: tuple[str, ...]
    voter: bool = False


REQUEST: Final = TypeAdapter(JoinRequest)
CHECK: Final = TypeAdapter(JoinCheck)
GRANT: Final = TypeAdapter(JoinGrant)
