"""What source and target of a live migration tell each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import JsonValue, TypeAdapter, ValidationError

from racimo.errors import BadRequest

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class IncomingRequest:
    """The source asks: prepare to take this guest over. ``config`` and ``cpu`` are what its QEMU was started with."""

    vmid: int
    source: str
    epoch: int
    """The guest's epoch at the source; at the target it will be one more."""
    config: dict[str, str]
    cpu: str
    qemu: str
    """Version of the source's QEMU, such as ``7.2.0``."""
    acceleration: str
    """``kvm`` or ``tcg``."""
    task: str = ""
    """UPID of the migration, which holds the guest's lock: a request that comes after its end is refused by it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IncomingPlace:
    """The target answers: send it there. ``tls_name`` is the name in the target's certificate."""

    address: str
    port: int
    tls_name: str


VERSIONS = "Bring both nodes to the same version of Racimo, then try again"

REQUEST: TypeAdapter[IncomingRequest] = TypeAdapter(IncomingRequest)
PLACE: TypeAdapter[IncomingPlace] = TypeAdapter(IncomingPlace)


def request_to_json(request: IncomingRequest) -> dict[str, JsonValue]:
    """The parameters of ``POST …/racimo/incoming``."""
    fields: dict[str, JsonValue] = REQUEST.dump_python(request, mode="json")
    return fields


def request_from_json(fields: Mapping[str, object]) -> IncomingRequest:
    """The request in these parameters. Raises ``BadRequest``."""
    try:
        return REQUEST.validate_python(dict(fields))
    except ValidationError as error:
        raise BadRequest("The request to take a guest over cannot be read", why=str(error), todo=VERSIONS) from error


def place_to_json(place: IncomingPlace) -> dict[str, JsonValue]:
    """The answer of ``POST …/racimo/incoming``."""
    fields: dict[str, JsonValue] = PLACE.dump_python(place, mode="json")
    return fields


def place_from_json(fields: JsonValue) -> IncomingPlace:
    """The place in this answer. Raises ``BadRequest``."""
    try:
        return PLACE.validate_python(fields)
    except ValidationError as error:
        raise BadRequest("The target's answer cannot be read", why=str(error), todo=VERSIONS) from error
