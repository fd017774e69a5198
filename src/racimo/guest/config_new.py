"""What a configuration gets by itself: MAC addresses, UUIDs, password hashes, the pinned machine."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import TYPE_CHECKING

from racimo.guest.devices import NETWORK, SMBIOS, Smbios, new_mac
from racimo.guest.password import hash_password, is_hash

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def new_uuid(randbits: Callable[[int], int]) -> str:
    """A random UUID (RFC 4122, version 4)."""
    return str(uuid.UUID(int=randbits(128), version=4))


def fill_in(values: Mapping[str, str], randbits: Callable[[int], int]) -> dict[str, str]:
    """Values as a person gave them, with what is drawn or computed put in; ``randbits(n)`` gives n random bits.

    Network cards without a MAC address get one, ``vmgenid: 1`` becomes a new id, and a plain password becomes its hash.
    Malformed values stay as they are: ``parse_config`` names them.
    """
    filled = dict(values)
    for key, value in values.items():
        if key.startswith("net") and key[3:].isdecimal():
            filled[key] = _with_mac(value, randbits)
    if filled.get("vmgenid") == "1":
        filled["vmgenid"] = new_uuid(randbits)
    password = filled.get("cipassword")
    if password and not is_hash(password):
        filled["cipassword"] = hash_password(password, randbits)
    return filled


def _with_mac(value: str, randbits: Callable[[int], int]) -> str:
    try:
        card = NETWORK.parse(value)
    except ValueError:
        return value
    return NETWORK.render(card if card.macaddr else replace(card, macaddr=new_mac(randbits)))


def complete_new(
    values: Mapping[str, str], *, machine: str, qemu: str, created: int, randbits: Callable[[int], int]
) -> dict[str, str]:
    """The configuration of a new guest: ``fill_in``, its identity, and the pinned ``machine`` type.

    ``qemu`` is the version that it is made with, ``created`` seconds since the epoch; both only for people.
    """
    filled = {"vmgenid": "1", **values, "machine": machine}
    filled["meta"] = f"creation-qemu={qemu},ctime={created}"
    try:
        identity = SMBIOS.parse(filled.get("smbios1", f"uuid={new_uuid(randbits)}"))
    except ValueError:
        return fill_in(filled, randbits)
    filled["smbios1"] = SMBIOS.render(identity if identity.uuid else _identified(identity, randbits))
    return fill_in(filled, randbits)


def _identified(identity: Smbios, randbits: Callable[[int], int]) -> Smbios:
    return replace(identity, uuid=new_uuid(randbits))
