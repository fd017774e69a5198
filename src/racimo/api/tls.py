"""TLS contexts of the API: the datacenter's authority on both sides."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from racimo.errors import OperationFailed

if TYPE_CHECKING:
    from pathlib import Path

    from racimo.model.paths import NodePaths

_log = structlog.get_logger()


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

    @property
    def custom_certificate(self) -> Path:
        """The user's own certificate for people and clients, if there is one."""
        return self.certificate.with_name("custom.crt")

    @property
    def custom_key(self) -> Path:
        """Its key."""
        return self.certificate.with_name("custom.key")

    def server_context(self) -> ssl.SSLContext:
        """For the server: clients may show a certificate of the authority; any other ends the handshake.

        Whoever asks for the node by its bare name, as the other nodes do, is shown the authority's certificate; all
        others the user's own, if there is one that can be used.
        """
        own = self._loaded(ssl.Purpose.CLIENT_AUTH)
        own.verify_mode = ssl.CERT_OPTIONAL
        if not self.custom_certificate.exists():
            return own
        shown = TlsFiles(self.ca, self.custom_certificate, self.custom_key)
        try:
            context = shown._loaded(ssl.Purpose.CLIENT_AUTH)
        except OperationFailed as error:
            _log.warning("the user's own certificate is not used", why=str(error), todo="Set it anew, or remove it")
            return own
        context.verify_mode = ssl.CERT_OPTIONAL

        def choose(connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, _: ssl.SSLContext) -> None:
            if name and "." not in name:
                connection.context = own

        context.sni_callback = choose
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
