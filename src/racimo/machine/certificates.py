"""Certificates of the API: what they say, and whether one that a user brings fits its key."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from racimo.errors import BadParameter

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """What a certificate says. Times in seconds since the epoch; the fingerprint is SHA-256 in pairs of hex."""

    fingerprint: str
    subject: str
    issuer: str
    not_before: int
    not_after: int
    names: tuple[str, ...]
    key_kind: str
    key_bits: int
    pem: str


def read_certificate(pem: str) -> Certificate:
    """The first one of a chain. Raises ``ValueError``."""
    found = x509.load_pem_x509_certificate(pem.encode())
    key = found.public_key()
    kind, bits = "unknown", 0
    if isinstance(key, rsa.RSAPublicKey):
        kind, bits = "rsaEncryption", key.key_size
    elif isinstance(key, ec.EllipticCurvePublicKey):
        kind, bits = "id-ecPublicKey", key.key_size
    return Certificate(
        fingerprint=":".join(f"{byte:02X}" for byte in found.fingerprint(hashes.SHA256())),
        subject="/" + "/".join(found.subject.rfc4514_string().split(",")),
        issuer="/" + "/".join(found.issuer.rfc4514_string().split(",")),
        not_before=_seconds(found.not_valid_before_utc), not_after=_seconds(found.not_valid_after_utc),
        names=_names(found), key_kind=kind, key_bits=bits,
        pem=found.public_bytes(serialization.Encoding.PEM).decode(),
    )  # fmt: skip


def check_pair(chain: str, key: str, now: float) -> None:
    """Whether the chain's first certificate fits the key and is valid now. Raises ``BadParameter`` otherwise."""
    wrong: dict[str, str] = {}
    try:
        certificates = x509.load_pem_x509_certificates(chain.encode())
    except ValueError as error:
        raise BadParameter({"certificates": f"is no chain of certificates in PEM form ({str(error)[:200]})"}) from error
    try:
        private = serialization.load_pem_private_key(key.encode(), None)
    except (ValueError, TypeError) as error:
        raise BadParameter({"key": "is no private key in PEM form without a password"}) from error
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    first = certificates[0]
    if first.public_key().public_bytes(*form) != private.public_key().public_bytes(*form):
        wrong["key"] = "does not belong to the first certificate"
    if _seconds(first.not_valid_after_utc) <= now:
        wrong["certificates"] = f"the first one ended on {first.not_valid_after_utc:%Y-%m-%d}"
    if wrong:
        raise BadParameter(wrong)


def demand_usable(context: ssl.SSLContext, certificate: str, key: str) -> None:
    """Whether TLS takes the files too. Raises ``BadParameter``."""
    try:
        context.load_cert_chain(certificate, key)
    except (ssl.SSLError, OSError) as error:
        raise BadParameter({"certificates": f"TLS does not take it ({str(error)[:200]})"}) from error


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(str(each.value) for each in found if isinstance(each, x509.DNSName | x509.IPAddress))


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())
