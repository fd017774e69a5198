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
    ha_shutdown_policy: str = "conditional"
    """What becomes of a node's HA guests when it is shut down in order: ``conditional`` (a reboot freezes them, a
    power-off fails them over), ``freeze``, ``failover`` or ``migrate``."""
    ha_migrate_wait: int = 180
    """Seconds that a node waits for its guests to migrate away before policy ``migrate`` gives up."""
    crs: str = "basic"
    """How a node is chosen: ``basic`` (fewest guests), ``static`` (configured sizes) or ``dynamic`` (measured load)."""
    crs_rebalance_on_start: bool = False
    """Choose anew where a guest runs each time that it is wanted started."""
    crs_auto_rebalance: bool = False
    crs_threshold: float = 0.3
    """Imbalance (population standard deviation over mean of the nodes' load) above which guests are moved."""
    crs_margin: float = 0.1
    """By what part a move has to lower the imbalance."""
    crs_hold: int = 3
    """Rounds in a row that the imbalance has to be above the threshold first."""
    crs_method: str = "bruteforce"
    """How the best move is found: ``bruteforce`` or ``topsis``."""
    crs_moves_per_hour: int = 10
    """At most so many guests are moved for balance within an hour."""
    migration_network: str = ""
    """CIDR; the address of each node inside it carries live migrations. Empty: the cluster network."""
    migration_bandwidth: int = 0
    """Bytes per second; 0: as fast as the network goes."""
    sealing_key: str = ""
    """The id of the key that secrets in the store are sealed with. The key itself is in a file on each node."""


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
