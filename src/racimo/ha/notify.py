"""Telling systemd how a daemon is (sd_notify(3)). Standard library only: the guard uses it."""

from __future__ import annotations

import contextlib
import os
import socket


def notify(text: str) -> None:
    """Tell systemd (sd_notify(3)); without systemd nobody is told."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.setblocking(False)
        sender.sendto(text.encode(), "\0" + address[1:] if address.startswith("@") else address)
