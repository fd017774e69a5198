"""The channel between the two QEMUs of a migration: TLS with the nodes' certificates, both sides proven."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from racimo.errors import Refused
from racimo.guest.qemu.monitor import CommandRefused

if TYPE_CHECKING:
    from pathlib import Path

    from racimo.guest.qemu.monitor import Monitor
    from racimo.model.paths import NodePaths

CREDENTIALS = "migration-tls"

DH_PARAMETERS = """\
-----BEGIN DH PARAMETERS-----
MIIBCAKCAQEA//////////+t+FRYortKmq/cViAnPTzx2LnFg84tNpWp4TZBFGQz
+8yTnc4kmz75fS/jY2MMddj2gbICrsRhetPfHtXV/WVhJDP1H18GbtCFY2VVPe0a
87VXE15/V8k1mE8McODmi3fipona8+/och3xWKE2rec1MKzKT0g6eXq8CrGCsyT7
YdEIqUuyyOP7uWrat2DX9GgdT0Kj3jlN9K5W7edjcrsZCwenyO4KbXCeAvzhzffi
7MA0BM0oNC9hkXL+nOmFg/+OTxIy7vKBg8P+OxtMb61zO7X8vC7CIAXFjvGDfRaD
ssbzSibBsu/6iGtCOGEoXJf//////////wIBAg==
-----END DH PARAMETERS-----
"""
"""ffdhe2048 of RFC 7919. Without such a file QEMU draws a group of its own at each migration: seconds of work for a
key exchange that our certificates (elliptic curves) never use."""

CAPABILITIES = {"events": True, "late-block-activate": True}
"""``late-block-activate``: the target opens its disks for writing only when it is let run, so that until then the
source can take the guest back at any time."""


def credentials_directory(paths: NodePaths, vmid: int) -> Path:
    """Make the directory that QEMU reads its certificates from: links to the node's. Raises ``Refused``."""
    directory = paths.guest_run(vmid) / "tls"
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    names = {
        "ca-cert.pem": "ca.crt",
        "server-cert.pem": "node.crt",
        "server-key.pem": "node.key",
        "client-cert.pem": "node.crt",
        "client-key.pem": "node.key",
    }
    for link, file in names.items():
        if not (paths.etc / file).exists():
            raise Refused(
                "The guest cannot be migrated",
                why=f"this node has no certificate ({paths.etc / file})",
                todo="See why it was not issued: journalctl -u racimo-node",
            )
        (directory / link).unlink(missing_ok=True)
        (directory / link).symlink_to(paths.etc / file)
    (directory / "dh-params.pem").write_text(DH_PARAMETERS)
    return directory


async def secure_channel(monitor: Monitor, directory: Path, *, server: bool, peer_name: str = "") -> None:
    """Tell QEMU to migrate over TLS only, with the certificates in ``directory``; both ends must prove themselves.

    ``peer_name`` is the name that the target's certificate must bear, given at the source.
    """
    endpoint = "server" if server else "client"
    with suppress(CommandRefused):  # there is none, unless an earlier migration failed
        await monitor.execute("object-del", {"id": CREDENTIALS})
    settings = {"qom-type": "tls-creds-x509", "id": CREDENTIALS, "dir": str(directory), "endpoint": endpoint}
    await monitor.execute("object-add", {**settings, "verify-peer": True})
    parameters: dict[str, object] = {"tls-creds": CREDENTIALS}
    if peer_name:
        parameters["tls-hostname"] = peer_name
    await monitor.execute("migrate-set-parameters", parameters)
    capabilities = [{"capability": name, "state": state} for name, state in CAPABILITIES.items()]
    await monitor.execute("migrate-set-capabilities", {"capabilities": capabilities})


def migration_uri(address: str, port: int) -> str:
    """QEMU's form of a TCP address; brackets around IPv6."""
    return f"tcp:[{address}]:{port}" if ":" in address else f"tcp:{address}:{port}"
