"""The datacenter's own certificate authority: EC P-256, ten years; it signs node certificates of one year.

A node certificate serves the API, the store's member and the migrations, so it has both usages. Its subject says who:
common name = node, organisation = datacenter id, organisational unit = node id (a node that was removed and joined
again has another one, so its old certificate names nobody).
"""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from racimo.errors import Refused
from racimo.model.datacenter import Authority

DAY = datetime.timedelta(days=1)
AUTHORITY_LIFE, NODE_LIFE = 3652 * DAY, 365 * DAY
BACKDATED = 1 * DAY
"""Certificates are valid from a day ago: nodes whose clocks differ still talk to each other."""
RENEW_AT = 1 / 3


@dataclass(frozen=True, slots=True)
class Subject:
    """Who a node certificate speaks for."""

    node: str
    node_id: str
    datacenter: str


def new_authority(datacenter_id: str, name: str, now: float) -> Authority:
    """A fresh authority for a datacenter; ``now`` in seconds since the epoch."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, f"Racimo {name}"[:64]),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, datacenter_id),
        ]
    )
    builder = _builder(subject, subject, key.public_key(), now, AUTHORITY_LIFE)
    certificate = (
        builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Authority(certificate=_pem(certificate), key=new_key(key))


def new_key(key: ec.EllipticCurvePrivateKey | None = None) -> str:
    """A private key (fresh unless given) as unencrypted PKCS#8 PEM."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(encoding, form, serialization.NoEncryption()).decode()


def signing_request(key: str, node: str) -> str:
    """A certificate signing request for ``key``, PEM. The authority takes only the public key from it."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, node)])
    csr = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(_private(key), hashes.SHA256())
    return csr.public_bytes(serialization.Encoding.PEM).decode()


def sign(authority: Authority, request: str, subject: Subject, addresses: tuple[str, ...], now: float) -> str:
    """A node certificate for the public key of ``request``, followed by the authority's own, PEM.

    Raises ``Refused`` when the request is not one or is not signed by its own key.
    """
    try:
        csr = x509.load_pem_x509_csr(request.encode())
    except ValueError as error:
        raise Refused("The certificate signing request cannot be read", why=str(error)) from error
    if not csr.is_signature_valid:
        raise Refused("The certificate signing request is not signed by its own key")
    issuer, key = x509.load_pem_x509_certificate(authority.certificate.encode()), _private(authority.key)
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, subject.node),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, subject.datacenter),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, subject.node_id),
        ]
    )
    public = csr.public_key()
    builder = _builder(name, issuer.subject, public, now, NODE_LIFE)
    certificate = (
        builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(authority=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(_alternative_names(subject.node, addresses), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _pem(certificate) + authority.certificate


def fingerprint(certificate: str | bytes) -> str:
    """SHA-256 over the DER form, 64 hexadecimal digits. Takes PEM (the first certificate in it) or DER."""
    if isinstance(certificate, str):
        loaded = x509.load_pem_x509_certificate(certificate.encode())
        certificate = loaded.public_bytes(serialization.Encoding.DER)
    return hashlib.sha256(certificate).hexdigest()


def read_subject(certificate: str | bytes) -> Subject:
    """Whom a node certificate (PEM or DER) speaks for. Raises ``Refused`` when it is not one of ours."""
    load = x509.load_pem_x509_certificate if isinstance(certificate, str) else x509.load_der_x509_certificate
    name = load(certificate.encode() if isinstance(certificate, str) else certificate).subject
    parts = [name.get_attributes_for_oid(oid) for oid in (NameOID.COMMON_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME)]
    parts.append(name.get_attributes_for_oid(NameOID.ORGANIZATION_NAME))
    if not all(parts):
        raise Refused("The certificate is not that of a Racimo node", why=f"its subject is {name.rfc4514_string()}")
    node, node_id, datacenter = (str(part[0].value) for part in parts)
    return Subject(node, node_id, datacenter)


def issued_by(certificate: str, authority_certificate: str) -> bool:
    """Whether the first certificate in ``certificate`` was signed by the authority."""
    try:
        issuer = x509.load_pem_x509_certificate(authority_certificate.encode())
        x509.load_pem_x509_certificate(certificate.encode()).verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def belongs_to(certificate: str, key: str) -> bool:
    """Whether ``key`` is the private key of the first certificate in ``certificate``."""
    return x509.load_pem_x509_certificate(certificate.encode()).public_key() == _private(key).public_key()


def addresses_in(certificate: str) -> frozenset[str]:
    """The IP addresses that the first certificate in ``certificate`` is valid for."""
    names = x509.load_pem_x509_certificate(certificate.encode()).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    return frozenset(str(address) for address in names.value.get_values_for_type(x509.IPAddress))


def due_for_renewal(certificate: str, now: float) -> bool:
    """Whether less than a third of the certificate's life is left."""
    loaded = x509.load_pem_x509_certificate(certificate.encode())
    start, end = loaded.not_valid_before_utc.timestamp(), loaded.not_valid_after_utc.timestamp()
    return end - now < (end - start) * RENEW_AT


def _builder(
    subject: x509.Name, issuer: x509.Name, public: object, now: float, life: datetime.timedelta
) -> x509.CertificateBuilder:
    if not isinstance(public, ec.EllipticCurvePublicKey):
        raise Refused("The key cannot be certified", why="only elliptic-curve keys are used here")
    start = datetime.datetime.fromtimestamp(int(now), datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start - BACKDATED)
        .not_valid_after(start + life)
    )


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _alternative_names(node: str, addresses: tuple[str, ...]) -> x509.SubjectAlternativeName:
    names: list[x509.GeneralName] = [x509.DNSName(node)]
    names += [x509.DNSName("localhost")] if node != "localhost" else []
    unique = dict.fromkeys((*addresses, "127.0.0.1"))
    names += [x509.IPAddress(ipaddress.ip_address(address)) for address in unique]
    return x509.SubjectAlternativeName(names)


def _private(key: str) -> ec.EllipticCurvePrivateKey:
    loaded = serialization.load_pem_private_key(key.encode(), None)
    if not isinstance(loaded, ec.EllipticCurvePrivateKey):
        raise Refused("The private key cannot be used", why="it is not an elliptic-curve key")
    return loaded


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
