"""The member of the quorum store on this node: its configuration, its start, its end."""

from __future__ import annotations

import asyncio
import json
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from racimo.datacenter.atomic_file import remove_file, replace_file
from racimo.datacenter.certificates import CertificateFiles
from racimo.datacenter.host import CLIENT_PORT, PEER_PORT, check_ports_free, url
from racimo.datacenter.services import ETCD_UNIT
from racimo.errors import OperationFailed, StoreError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    from racimo.datacenter.host import Host
    from racimo.datacenter.identity import Identity

log = structlog.get_logger()

HEARTBEAT_MS, ELECTION_MS = 100, 1000
QUOTA_BYTES = 2 * 2**30
MAX_REQUEST_BYTES = 8 * 2**20
MAX_TXN_OPERATIONS = 8192
SERVE_TIMEOUT_S = 60.0
POLL_S = 0.1
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """How a member starts for the first time: ``peers`` maps member names to peer URLs, its own among them."""

    peers: Mapping[str, str]
    existing: bool
    token: str
    force_new: bool = False
    """Make this member the only one of what its data holds: recovery of a lost quorum."""


def member_name(identity: Identity) -> str:
    """The member's name: the node's, with the beginning of its id, for a node that comes back is another member."""
    return f"{identity.name}-{identity.id[:8]}"


def etcd_config(host: Host, identity: Identity, membership: Membership) -> str:
    """``etcd.conf.yml`` (as JSON, which is YAML too) for etcd 3.4 and 3.5."""
    files = CertificateFiles.of(host.paths)
    tls = {
        "cert-file": str(files.cert),
        "key-file": str(files.key),
        "trusted-ca-file": str(files.ca),
        "client-cert-auth": True,
    }
    loopback = [url(LOOPBACK, CLIENT_PORT)] if host.listen_loopback else []
    settings: dict[str, object] = {
        "name": member_name(identity),
        "data-dir": str(data_folder(host)),
        "listen-peer-urls": url(identity.address, PEER_PORT),
        "listen-client-urls": ",".join([url(identity.address, CLIENT_PORT), *loopback]),
        "initial-advertise-peer-urls": url(identity.address, PEER_PORT),
        "advertise-client-urls": url(identity.address, CLIENT_PORT),
        "initial-cluster": ",".join(f"{name}={peer}" for name, peer in membership.peers.items()),
        "initial-cluster-state": "existing" if membership.existing else "new",
        "initial-cluster-token": membership.token,
        "client-transport-security": tls,
        "peer-transport-security": tls,
        "heartbeat-interval": HEARTBEAT_MS,
        "election-timeout": ELECTION_MS,
        "pre-vote": True,
        "strict-reconfig-check": True,
        "enable-grpc-gateway": True,
        "enable-v2": False,
        "auto-compaction-mode": "periodic",
        "auto-compaction-retention": "1h",
        "quota-backend-bytes": QUOTA_BYTES,
        "max-request-bytes": MAX_REQUEST_BYTES,
        "max-txn-ops": MAX_TXN_OPERATIONS,
        "snapshot-count": 10000,
        "logger": "zap",
        "log-level": "error",
        "log-outputs": ["stderr"],
    }
    if membership.force_new:
        settings["force-new-cluster"] = True
    return json.dumps(settings, indent=1) + "\n"


def data_folder(host: Host) -> Path:
    """Where the member keeps its data."""
    return host.paths.state / "etcd"


def config_file(host: Host) -> Path:
    """Where its configuration is."""
    return host.paths.etc / "etcd.conf.yml"


class EtcdMember:
    """The member on this node. ``serving`` asks whether it answers; handed in, because that takes a store client."""

    def __init__(self, host: Host, identity: Identity) -> None:
        self.host, self.identity = host, identity

    @property
    def has_data(self) -> bool:
        """Whether it was a member before and its data is still here."""
        return (data_folder(self.host) / "member" / "wal").is_dir()

    async def active(self) -> bool:
        """Whether its process runs."""
        return await self.host.services.active(ETCD_UNIT)

    async def begin(self, membership: Membership) -> None:
        """Start it as a new member with empty data; what data is left of an earlier membership is put aside.

        Raises ``Refused`` when its ports are taken, ``OperationFailed`` when it cannot be started.
        """
        await self.host.services.stop(ETCD_UNIT)
        self.put_data_aside()
        check_ports_free(self.identity.address)
        self.configure(membership)
        await self.host.services.start(ETCD_UNIT)

    async def resume(self) -> None:
        """Start it with the configuration and data that it has."""
        await self.host.services.start(ETCD_UNIT)

    def configure(self, membership: Membership) -> None:
        """Write its configuration."""
        folder = data_folder(self.host)
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        replace_file(config_file(self.host), etcd_config(self.host, self.identity, membership).encode())

    async def end(self, *, keep_data: bool = True) -> None:
        """Stop it for good. Its data is put aside, or removed."""
        await self.host.services.stop(ETCD_UNIT)
        remove_file(config_file(self.host))
        if keep_data:
            self.put_data_aside()
        elif data_folder(self.host).exists():
            shutil.rmtree(data_folder(self.host))

    def put_data_aside(self) -> None:
        """Rename the data to ``etcd.old``, in place of what was put aside before."""
        folder = data_folder(self.host)
        if not folder.exists():
            return
        aside = folder.with_name("etcd.old")
        if self.has_data:
            if aside.exists():
                shutil.rmtree(aside)
            folder.rename(aside)
            log.info("Put the store's old data aside", path=str(aside))
        else:
            shutil.rmtree(folder)

    async def wait_until(self, serving: Callable[[], Awaitable[bool]], timeout: float = SERVE_TIMEOUT_S) -> None:
        """Wait until ``serving()``; ``OperationFailed`` with what the member logged, when it ends or takes too long."""
        said: StoreError | None = None
        try:
            async with asyncio.timeout(timeout):
                while True:
                    try:
                        if await serving():
                            return
                    except StoreError as error:
                        said = error
                    if not await self.active():
                        raise OperationFailed(
                            "The store's member on this node ended",
                            why=await self.said(),
                            todo=f"See all that it said: journalctl -u {ETCD_UNIT}",
                        )
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            why = f"waited {timeout:.0f} s; {said or 'no answer'}; it logged: {await self.said()}"
            raise OperationFailed(
                "The store's member on this node does not serve",
                why=why,
                todo=f"See whether it reaches the other voters (ports 2379, 2380): journalctl -u {ETCD_UNIT}",
            ) from None

    async def said(self) -> str:
        """The last lines that it logged, for people."""
        return (await self.host.services.journal(ETCD_UNIT)).strip() or "nothing"
