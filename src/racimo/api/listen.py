"""The sockets that the API listens on."""

from __future__ import annotations

import os
import socket
import weakref
from typing import TYPE_CHECKING, Any

from racimo.errors import Conflict, OperationFailed

if TYPE_CHECKING:
    from pathlib import Path

BACKLOG = 128
MAX_CONNECTIONS = 2000
"""At the same time. A TLS connection takes about 280 KiB, also one whose other end says nothing: 560 MiB in all."""


class BoundedListener(socket.socket):
    """A listening socket that closes at once what comes beyond ``limit`` connections."""

    limit = MAX_CONNECTIONS

    def __init__(self, family: int = -1, type: int = -1, proto: int = -1, fileno: int | None = None) -> None:  # noqa: A002
        super().__init__(family, type, proto, fileno)
        self._accepted: weakref.WeakSet[socket.socket] = weakref.WeakSet()

    def accept(self) -> tuple[socket.socket, Any]:
        """Raises ``ConnectionAbortedError`` for one too many."""
        connection, address = super().accept()
        if len(self._accepted) >= self.limit:
            self._accepted = weakref.WeakSet(kept for kept in self._accepted if kept.fileno() != -1)
        if len(self._accepted) >= self.limit:
            connection.close()
            raise ConnectionAbortedError(f"more than {self.limit} connections")
        self._accepted.add(connection)
        return connection, address


def unix_socket(path: Path) -> socket.socket:
    """A listening socket at ``path`` for the daemon's user alone. One left by a dead daemon is replaced.

    Raises ``Conflict`` when another daemon serves there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if _answered(path):
        raise Conflict(
            f"Another daemon serves at {path}", why="it accepts connections",
            todo="Stop it first: systemctl stop racimo-node",
        )  # fmt: skip
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(fresh))
        fresh.chmod(0o600)
        listener.listen(BACKLOG)
        fresh.rename(path)
    except OSError as error:
        listener.close()
        raise OperationFailed(f"The API cannot be served at {path}", why=str(error)) from error
    listener.setblocking(False)
    return listener


def tcp_socket(host: str | None, port: int) -> socket.socket:
    """A listening TCP socket; ``host`` None is every address, IPv6 included where the kernel has it.

    Raises ``OperationFailed`` when the address is taken or not this machine's.
    """
    try:
        if host is None and socket.has_dualstack_ipv6():
            listener = socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=BACKLOG)
        else:
            family = socket.AF_INET6 if host and ":" in host else socket.AF_INET
            listener = socket.create_server((host or "", port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise OperationFailed(
            f"The API cannot be served at {host or '*'} port {port}", why=error.strerror or str(error),
            todo="See who uses the port: ss -ltnp",
        ) from error  # fmt: skip
    bounded = BoundedListener(fileno=listener.detach())
    bounded.setblocking(False)
    return bounded


def _answered(path: Path) -> bool:
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        probe.settimeout(1.0)
        probe.connect(str(path))
        return True
    except OSError:
        return False
    finally:
        probe.close()
