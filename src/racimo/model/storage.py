"""Storages as the datacenter defines them; how one is driven is the storage room's matter."""

from __future__ import annotations

from dataclasses import dataclass

from racimo.model.record import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage(Record):
    """One storage definition. ``nodes`` empty means on every node; ``shared`` means that all see the same content."""

    id: str
    type: str
    path: str = ""
    content: tuple[str, ...] = ("images",)
    nodes: tuple[str, ...] = ()
    shared: bool = False
    disabled: bool = False
    options: tuple[tuple[str, str], ...] = ()
