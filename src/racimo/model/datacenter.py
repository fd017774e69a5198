"""The datacenter as a whole."""

from __future__ import annotations

from dataclasses import dataclass

from racimo.model.record import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Datacenter(Record):
    """Name and settings of the whole. ``clustered`` is false for a node that stands alone on its SQLite store."""

    id: str
    name: str
    clustered: bool = False
    created: float = 0.0
    ha_profile: str = "default"
    migration_network: str = ""
    """CIDR; the address of each node inside it carries live migrations. Empty: the cluster network."""
    migration_bandwidth: int = 0
    """Bytes per second; 0: as fast as the network goes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority(Record):
    """The datacenter's certificate authority, PEM. Readable by voters and nodes only, over mutual TLS."""

    certificate: str
    key: str
    serial: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinToken(Record):
    """A one-time right to join. ``digest`` is the SHA-256 of the secret; ``expires`` is in seconds since the epoch."""

    digest: str
    expires: float
    witness: bool = False
    used_by: str = ""
