"""Waking a machine through its network card: the magic packet of Wake-on-LAN."""

from __future__ import annotations

import re
import socket

from racimo.errors import BadParameter, OperationFailed

MAC = re.compile(r"([0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}")
PORT = 9


def check_mac(mac: str) -> None:
    """Raises ``BadParameter``."""
    if not MAC.fullmatch(mac):
        raise BadParameter({"wakeonlan": f"'{mac[:40]}' is not a MAC address such as 52:54:00:12:34:56"})


def magic_packet(mac: str) -> bytes:
    """Six bytes of ones, then the address sixteen times."""
    check_mac(mac)
    return b"\xff" * 6 + bytes.fromhex(re.sub("[:-]", "", mac)) * 16


def wake(mac: str, address: str = "255.255.255.255", port: int = PORT) -> None:
    """Send it to all in reach. Nobody answers: whether the machine wakes, only time tells."""
    packet = magic_packet(mac)
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            sender.sendto(packet, (address, port))
    except OSError as error:
        raise OperationFailed("The packet that wakes the node was not sent", why=str(error)) from error
