"""What every stored record has in common."""

from __future__ import annotations

from dataclasses import dataclass

SCHEMA = 1
"""The schema number that this version writes."""
SEALED = "sealed"
"""In a field's metadata: its text, or each of its values, stands sealed in the store (``racimo.store.sealing``)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Base of the records kept in the store. Fields that this version does not know survive a read-modify-write."""

    schema: int = SCHEMA
