"""Which nodes have what a guest needs: its storages, its bridges, its CPU. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from racimo.model.guest import Guest
    from racimo.model.node import Node, NodeFacts
    from racimo.model.storage import Storage

DISK = re.compile(r"(?:scsi|virtio|sata|ide)[0-9]+|efidisk0|tpmstate0")
CARD = re.compile(r"net[0-9]+")
MIB = 1 << 20
DEFAULT_MEMORY_MIB = 512


def storages_of(config: Mapping[str, str]) -> set[str]:
    """The ids of the storages that hold the guest's volumes; a path of the node itself counts as the storage ``/``."""
    found = set()
    for key, value in config.items():
        if not DISK.fullmatch(key):
            continue
        volume = value.partition(",")[0].removeprefix("file=")
        if volume.startswith("/"):
            found.add("/")
        elif ":" in volume:
            found.add(volume.partition(":")[0])
    return found


def bridges_of(config: Mapping[str, str]) -> set[str]:
    """The bridges that the guest's network cards hang on."""
    cards = (value for key, value in config.items() if CARD.fullmatch(key))
    return {part.removeprefix("bridge=") for card in cards for part in card.split(",") if part.startswith("bridge=")}


def demand_of(config: Mapping[str, str]) -> tuple[int, int]:
    """CPUs, and bytes of memory, as configured. What cannot be read counts as the default."""
    sockets, cores = _number(config.get("sockets", ""), 1), _number(config.get("cores", ""), 1)
    memory = config.get("memory", "").partition(",")[0].removeprefix("current=")
    return sockets * cores, _number(memory, DEFAULT_MEMORY_MIB) * MIB


def _number(text: str, default: int) -> int:
    return int(text) if text.isdigit() else default


def allowed_nodes(guest: Guest, storages: Mapping[str, Storage], nodes: Iterable[str]) -> frozenset[str]:
    """Those of ``nodes`` that see every storage of ``guest``; its own node alone where one is not shared."""
    allowed = frozenset(nodes)
    for storage_id in storages_of(guest.config):
        storage = storages.get(storage_id)
        if storage is None or not storage.shared:
            allowed &= {guest.node}
        elif storage.nodes:
            allowed &= set(storage.nodes)
    return allowed


def lacking(
    guest: Guest, storages: Mapping[str, Storage], nodes: Mapping[str, Node], among: Iterable[str]
) -> dict[str, str]:
    """Those of ``among`` that lack something, each with the end of a sentence that begins with the node's name.

    The guest's own node has what is local to it. What is not known of a node is not held against it.
    """
    bridges, cpu = bridges_of(guest.config), guest.config.get("cpu", "").partition(",")[0].removeprefix("cputype=")
    held = {name: storages.get(name) for name in storages_of(guest.config)}
    local = sorted(name for name, storage in held.items() if storage is None or not storage.shared)
    bound = {name: frozenset(storage.nodes) for name, storage in held.items() if storage and storage.nodes}
    own = nodes[guest.node].facts if guest.node in nodes else None
    found = {}
    for name in among:
        if local and name == guest.node:
            continue
        if why := _lack(name, nodes[name].facts, own, local, bound, bridges, cpu):
            found[name] = why
    return found


def needs_of(guest: Guest, storages: Mapping[str, Storage], nodes: Mapping[str, Node]) -> object:
    """Equal for guests to which the same nodes lack the same."""
    held = storages_of(guest.config)
    local = any(storage is None or not storage.shared for storage in map(storages.get, held))
    own = nodes[guest.node].facts if guest.node in nodes else None
    kind = (own.cpu_model, own.architecture) if own is not None else None
    cpu = guest.config.get("cpu", "").partition(",")[0]
    return frozenset(held), frozenset(bridges_of(guest.config)), cpu, kind, guest.node if local else ""


def _lack(
    name: str,
    facts: NodeFacts,
    own: NodeFacts | None,
    local: list[str],
    bound: Mapping[str, frozenset[str]],
    bridges: set[str],
    cpu: str,
) -> str:
    if local:
        what = "it has a file of its node's own" if local[0] == "/" else f"{local[0]} is not shared"
        return f"lacks a storage of its ({what})"
    for storage, has in bound.items():
        if name not in has:
            return f"lacks a storage of its ({storage})"
    if facts.bridges is not None and (missing := bridges - set(facts.bridges)):
        return f"has no bridge {min(missing)}"
    if own is not None and cpu == "host" and own.cpu_model and facts.cpu_model and own.cpu_model != facts.cpu_model:
        return f"has another CPU ({facts.cpu_model}), and its CPU type is host"
    if own is not None and own.architecture and facts.architecture and own.architecture != facts.architecture:
        return f"is of another architecture ({facts.architecture})"
    return ""
