"""The machine that a step of this room works on: its paths, its services and its clock, handed in."""

from __future__ import annotations

import errno
import ipaddress
import socket
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from racimo.errors import BadParameter, Refused
from racimo.model.paths import NodePaths

if TYPE_CHECKING:
    from collections.abc import Callable

    from racimo.datacenter.services import Services

CLIENT_PORT, PEER_PORT = 2379, 2380


@dataclass(frozen=True, slots=True)
class Host:
    """``now`` is wall-clock time in seconds since the epoch, for expiry dates and for people.

    ``listen_loopback``: the store's member listens on 127.0.0.1 besides the node's address. Off where several nodes
    share one loopback, as in tests; loopback addresses are then allowed as a node's address too.
    """

    services: Services
    paths: NodePaths = field(default_factory=NodePaths)
    now: Callable[[], float] = time.time
    listen_loopback: bool = True


def url(address: str, port: int) -> str:
    """``https://address:port``, with brackets round an IPv6 address."""
    return f"https://[{address}]:{port}" if ":" in address else f"https://{address}:{port}"


def check_address(host: Host, address: str, name: str = "link0") -> str:
    """``address`` in its canonical spelling, if it is one of this machine's own.

    Raises ``BadParameter`` when it is not an address, ``Refused`` when it is not this machine's.
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        raise BadParameter({name: f"'{address}' is not an IP address"}) from None
    if (
        parsed.is_unspecified
        or parsed.is_multicast
        or parsed.is_link_local
        or (parsed.is_loopback and host.listen_loopback)
    ):
        raise BadParameter({name: f"{address} cannot be reached by other nodes"}, todo="Give the address of a network")
    with _socket(address) as probe:
        try:
            probe.bind((str(parsed), 0))
        except OSError as error:
            raise Refused(
                f"{address} is not an address of this node",
                why=error.strerror or str(error),
                todo="Give one that 'ip address' shows here",
            ) from error
    return str(parsed)


def check_ports_free(address: str) -> None:
    """Raise ``Refused`` when something listens already where the store's member is to listen."""
    for port in (CLIENT_PORT, PEER_PORT):
        with _socket(address) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
                probe.listen(1)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                raise Refused(
                    f"Port {port} of {address} is in use",
                    why="another program listens there, and the store's member needs it",
                    todo=f"Find it with: ss -ltnp 'sport = :{port}'. Debian's own etcd service is switched off with: "
                    "systemctl disable --now etcd",
                ) from error


def _socket(address: str) -> socket.socket:
    return socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
