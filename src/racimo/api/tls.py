"""TLS contexts of the API: the datacenter's authority on both sides."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

from racimo.errors import OperationFailed

if TYPE_CHECKING:
    from pathlib import Path

    from racimo.model.paths import NodePaths


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files: the authority, the node's certificate (server and client usage) and its key."""

    ca: Path
    certificate: Path
    key: Path

    @classmethod
    def of(cls, paths: NodePaths) -> TlsFiles:
        """Those of a node."""
        return cls(paths.etc / "ca.crt", paths.etc / "node.crt", paths.etc / "node.key")

    def server_context(self) -> ssl.SSLContext:
        """For the server: clients may show a certificate of the authority; any other ends the handshake."""
        context = self._loaded(ssl.Purpose.CLIENT_AUTH)
        context.verify_mode = ssl.CERT_OPTIONAL
        return context

    def client_context(self) -> ssl.SSLContext:
        """For calls to other nodes: their certificate must be the authority's and carry the node's name."""
        return self._loaded(ssl.Purpose.SERVER_AUTH)

    def _loaded(self, purpose: ssl.Purpose) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(purpose, cafile=str(self.ca))
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            context.load_cert_chain(self.certificate, self.key)
        except (OSError, ssl.SSLError) as error:
            raise OperationFailed(
                "The node's certificate cannot be used", why=f"{self.certificate}: {error}",
                todo="Have it issued anew by restarting racimo-node, or restore the files",
            ) from error  # fmt: skip
        return context
