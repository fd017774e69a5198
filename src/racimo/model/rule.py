"""Rules of high availability: on which nodes resources belong, and which of them belong together or apart."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from racimo.model.record import Record


class RuleKind(StrEnum):
    """What a rule is about. Names are those of the Proxmox VE API."""

    NODES = "node-affinity"
    RESOURCES = "resource-affinity"


class Affinity(StrEnum):
    """Whether resources are kept on one node or on different ones. Names are those of the Proxmox VE API."""

    POSITIVE = "positive"
    NEGATIVE = "negative"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule(Record):
    """One rule, as the administrator set it. ``name`` is its id; ``resources`` are sids such as ``vm:100``."""

    name: str
    kind: RuleKind
    resources: tuple[str, ...]
    nodes: dict[str, int] = field(default_factory=dict)
    """Node affinity: where the resources belong, with priorities; the highest that is there is taken."""
    strict: bool = False
    """Node affinity: nowhere else, not even when none of ``nodes`` is there."""
    affinity: Affinity = Affinity.POSITIVE
    """Resource affinity: together or apart."""
    disable: bool = False
    comment: str = ""
