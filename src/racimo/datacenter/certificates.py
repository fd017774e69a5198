"""The certificate files of a node: ``ca.crt``, ``node.crt`` (with the authority's behind it), ``node.key``.

The key is made once and kept: so a renewal replaces one file in one step, and a certificate never stands beside a key
that is not its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from racimo.datacenter.atomic_file import PRIVATE, remove_file, replace_file
from racimo.datacenter.authority import (
    Subject,
    addresses_in,
    belongs_to,
    due_for_renewal,
    issued_by,
    new_key,
    read_subject,
    sign,
    signing_request,
)
from racimo.errors import RacimoError

if TYPE_CHECKING:
    from pathlib import Path

    from racimo.model.datacenter import Authority
    from racimo.model.paths import NodePaths

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """Where they are."""

    ca: Path
    cert: Path
    key: Path

    @classmethod
    def of(cls, paths: NodePaths) -> CertificateFiles:
        """Those of a node."""
        return cls(paths.etc / "ca.crt", paths.etc / "node.crt", paths.etc / "node.key")

    def request(self, node: str) -> str:
        """A signing request for the node's key, which is made if there is none."""
        return signing_request(self._own_key(), node)

    def install(self, ca: str, certificate: str) -> None:
        """Put an authority and a node certificate in place of those that are there."""
        if not self.ca.exists() or self.ca.read_text() != ca:
            replace_file(self.ca, ca.encode())
        replace_file(self.cert, certificate.encode())

    def remove(self) -> None:
        """Remove all three."""
        for path in (self.cert, self.ca, self.key):
            remove_file(path)

    def wrong(self, authority: Authority, subject: Subject, addresses: tuple[str, ...], now: float) -> str:
        """Why the certificate must be issued anew, or "" when it need not."""
        try:
            ca, certificate, key = self.ca.read_text(), self.cert.read_text(), self.key.read_text()
            if ca != authority.certificate or not issued_by(certificate, ca):
                return "it is not of the datacenter's authority"
            if not belongs_to(certificate, key):
                return "it is not for this node's key"
            if read_subject(certificate) != subject:
                return "it names another node"
            if not set(addresses) <= addresses_in(certificate):
                return "it lacks one of the node's addresses"
            return "less than a third of its life is left" if due_for_renewal(certificate, now) else ""
        except FileNotFoundError as error:
            return f"{error.filename} does not exist"
        except (ValueError, RacimoError) as error:
            return f"it cannot be read ({error})"

    def ensure(self, authority: Authority, subject: Subject, addresses: tuple[str, ...], now: float) -> bool:
        """Issue the node's certificate if there is none that fits; true when it did. Servers must then load it anew."""
        why = self.wrong(authority, subject, addresses, now)
        if not why:
            return False
        self.install(authority.certificate, sign(authority, self.request(subject.node), subject, addresses, now))
        log.info("Issued the node's certificate", node=subject.node, why=why)
        return True

    def _own_key(self) -> str:
        if self.key.exists():
            key = self.key.read_text()
            try:
                signing_request(key, "probe")
            except (ValueError, RacimoError) as error:
                log.warning("Replacing the node's key, which cannot be read", path=str(self.key), why=str(error))
            else:
                return key
        key = new_key()
        replace_file(self.key, key.encode(), PRIVATE)
        return key
