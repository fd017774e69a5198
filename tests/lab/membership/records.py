"""What the store and the files of a node say, read past Racimo: a backup of all records, certificates, members."""

from __future__ import annotations

import base64
import gzip
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from lab_talk import call

if TYPE_CHECKING:
    from racimo.lab.node import LabNode


@dataclass(frozen=True, slots=True)
class Record:
    """One record of the store."""

    key: str
    value: dict[str, Any]


async def records(node: LabNode) -> list[Record]:
    """All records of the node's store now, by a backup of it."""
    path = str(await call(node, "post", "/racimo/backup"))
    lines = gzip.decompress((node.files / path.lstrip("/")).read_bytes()).splitlines()
    fields = [json.loads(line) for line in lines[1:-1]]
    return [Record(field["key"], json.loads(base64.b64decode(field["value"]))) for field in fields]


async def mentions(node: LabNode, name: str) -> list[str]:
    """Keys of the records that still speak of a node: as its own, as an owner, or among the nodes of a storage."""
    return [
        record.key
        for record in await records(node)
        if name in record.key.split("/") or record.value.get("node") == name or name in record.value.get("nodes", ())
    ]


def identity(node: LabNode) -> dict[str, Any]:
    """The node's ``node.json``."""
    kept: dict[str, Any] = json.loads((node.files / "etc/racimo/node.json").read_text())
    return kept


async def members(node: LabNode) -> dict[str, list[str]]:
    """The members of the quorum store by their state, asked of etcd itself on this node."""
    files = [f"--{kind}=/etc/racimo/{file}" for kind, file in (("cacert", "ca.crt"), ("cert", "node.crt"))]
    files += ["--key=/etc/racimo/node.key", f"--endpoints=https://{node.address()}:2379", "-w", "json"]
    said = json.loads(await node.succeed("env", "ETCDCTL_API=3", "etcdctl", *files, "member", "list"))
    voters = [url for member in said["members"] if not member.get("isLearner") for url in member["peerURLs"]]
    learners = [url for member in said["members"] if member.get("isLearner") for url in member["peerURLs"]]
    return {"voters": sorted(voters), "learners": learners}


def check_certificates(node: LabNode, datacenter: str) -> None:
    """The node's certificate is of the datacenter's authority, names the node, and fits the key, which is private."""
    etc = node.files / "etc/racimo"
    own = x509.load_pem_x509_certificate((etc / "node.crt").read_bytes())
    authority = x509.load_pem_x509_certificate((etc / "ca.crt").read_bytes())
    own.verify_directly_issued_by(authority)
    subject = {attribute.oid: attribute.value for attribute in own.subject}
    assert subject[NameOID.COMMON_NAME] == node.name
    assert subject[NameOID.ORGANIZATION_NAME] == datacenter
    assert subject[NameOID.ORGANIZATIONAL_UNIT_NAME] == identity(node)["id"]
    names = own.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {node.name, "localhost"} <= set(names.get_values_for_type(x509.DNSName))
    addresses = {str(address) for address in names.get_values_for_type(x509.IPAddress)}
    assert {node.address(), "127.0.0.1"} <= addresses
    usages = own.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH} <= set(usages)
    key = load_pem_private_key((etc / "node.key").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert key.public_key() == own.public_key()
    assert (etc / "node.key").stat().st_mode & 0o777 == 0o600
