"""Certificates of a node's API: the cluster's own, and one of the user's instead for people and clients."""

from __future__ import annotations

import asyncio
import ssl
import time
from typing import TYPE_CHECKING, Annotated, Protocol

from pydantic import Field

from racimo.api.endpoint import LOGGED_IN, Answers, Routes, privilege
from racimo.api.parameters import OfNode
from racimo.api.tls import TlsFiles
from racimo.errors import Conflict, NotFound
from racimo.machine.certificates import check_pair, demand_usable, read_certificate
from racimo.machine.files import read_text, replace_text

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic import JsonValue

    from racimo.api.context import Context
    from racimo.model.paths import NodePaths

MODIFY = privilege("/nodes/{node}", "Sys.Modify")
AUTHORITY, OWN, CUSTOM = "pve-root-ca.pem", "pve-ssl.pem", "pveproxy-ssl.pem"
"""The names by which clients of the Proxmox VE API tell a node's certificates apart."""
MAX_PEM = 128 << 10

routes = Routes()


class Reloading(Protocol):
    """The daemon's way of serving with other certificates."""

    async def __call__(self) -> None:
        """From now on, for new connections."""


class CertificateUse:
    """Has the API served with the certificates that are there now."""

    def __init__(self, reload: Reloading) -> None:
        self.reload = reload


class CustomCertificate(OfNode):
    """The user's own certificate."""

    certificates: Annotated[str, Field(max_length=MAX_PEM, description="Chain in PEM form, the node's own first.")]
    key: Annotated[str, Field(max_length=MAX_PEM, description="Its private key in PEM form, without a password.")] = ""
    force: Annotated[bool, Field(description="Take the place of one that is there.")] = False
    restart: Annotated[bool, Field(description="Has no effect: it is used at once.")] = False


class RemoveCustom(OfNode):
    """Go back to the cluster's."""

    restart: Annotated[bool, Field(description="Has no effect: it is no longer used at once.")] = False


@routes.add(
    "GET", "/nodes/{node}/certificates/info", permission=LOGGED_IN, answers=Answers.NODE, parameters=OfNode,
    summary="A node's certificates",
)  # fmt: skip
async def list_certificates(context: Context, parameters: OfNode) -> list[dict[str, JsonValue]]:
    """The authority's, the node's, and the user's own if there is one. Private keys are never shown."""
    return await asyncio.to_thread(shown_certificates, context.services.paths)


@routes.add(
    "POST", "/nodes/{node}/certificates/custom", permission=MODIFY, answers=Answers.NODE,
    parameters=CustomCertificate, summary="Serve people and clients with a certificate of one's own",
)  # fmt: skip
async def set_custom(context: Context, parameters: CustomCertificate) -> dict[str, JsonValue]:
    """Used at once for new connections. Between nodes the cluster's certificates stay in use."""
    tls = TlsFiles.of(context.services.paths)
    if tls.custom_certificate.exists() and not parameters.force:
        raise Conflict("The node has a certificate of its own already", todo="Give force=1 to take its place")
    key = parameters.key or await asyncio.to_thread(read_text, tls.custom_key)
    check_pair(parameters.certificates, key, time.time())
    await asyncio.to_thread(_put, tls, parameters.certificates, key)
    await context.services.need(CertificateUse).reload()
    return _certificate(CUSTOM, parameters.certificates)


@routes.add(
    "DELETE", "/nodes/{node}/certificates/custom", permission=MODIFY, answers=Answers.NODE, parameters=RemoveCustom,
    summary="Serve with the cluster's certificate again",
)  # fmt: skip
async def remove_custom(context: Context, parameters: RemoveCustom) -> None:
    """At once for new connections."""
    tls = TlsFiles.of(context.services.paths)
    if not tls.custom_certificate.exists():
        raise NotFound("The node has no certificate of its own", why="it serves with the cluster's")
    tls.custom_certificate.unlink(missing_ok=True)
    tls.custom_key.unlink(missing_ok=True)
    await context.services.need(CertificateUse).reload()


def shown_certificates(paths: NodePaths) -> list[dict[str, JsonValue]]:
    """Those that are there. Blocks. Raises ``OperationFailed``."""
    tls = TlsFiles.of(paths)
    files: list[tuple[str, Path]] = [(AUTHORITY, tls.ca), (OWN, tls.certificate), (CUSTOM, tls.custom_certificate)]
    texts = [(name, read_text(path)) for name, path in files]
    return [_certificate(name, text) for name, text in texts if text]


def _put(tls: TlsFiles, chain: str, key: str) -> None:
    """Under other names first, so that TLS has taken both before they are used."""
    tried = TlsFiles(tls.ca, tls.custom_certificate.with_suffix(".crt.new"), tls.custom_key.with_suffix(".key.new"))
    try:
        replace_text(tried.certificate, chain)
        replace_text(tried.key, key, 0o600)
        demand_usable(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), str(tried.certificate), str(tried.key))
        tls.custom_certificate.unlink(missing_ok=True)  # without it the pair is not used, whole or half
        tried.key.replace(tls.custom_key)
        tried.certificate.replace(tls.custom_certificate)
    finally:
        tried.certificate.unlink(missing_ok=True)
        tried.key.unlink(missing_ok=True)


def _certificate(filename: str, pem: str) -> dict[str, JsonValue]:
    found = read_certificate(pem)
    return {
        "filename": filename, "fingerprint": found.fingerprint, "subject": found.subject, "issuer": found.issuer,
        "notbefore": found.not_before, "notafter": found.not_after, "san": list(found.names),
        "public-key-type": found.key_kind, "public-key-bits": found.key_bits, "pem": found.pem,
    }  # fmt: skip
