"""A real etcd process for tests, started from a configuration file as in production."""

from __future__ import annotations

import json
import os
import random
import socket
import ssl
import subprocess
import time
import urllib.request
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from signal import Signals

    from racimo.store.etcd import TlsFiles

START_TIMEOUT = 30.0
UNASSIGNED = (20_000, 32_000)
"""Ports below those that Linux takes for outgoing connections."""


def free_port() -> int:
    """A TCP port of the loopback that nobody listens on, and that no outgoing connection is given meanwhile."""
    while True:
        with socket.socket() as listener, suppress(OSError):
            listener.bind(("127.0.0.1", random.randrange(*UNASSIGNED)))
            return int(listener.getsockname()[1])


class EtcdMember:
    """One etcd with TLS both ways. ``prefix`` is put before its command line, to start it in a network namespace."""

    def __init__(
        self,
        folder: Path,
        name: str,
        tls: TlsFiles,
        *,
        address: str = "127.0.0.1",
        client_port: int,
        peer_port: int,
        prefix: Sequence[str] = (),
        settings: Mapping[str, object] | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.name, self.tls, self.prefix = folder, name, tls, tuple(prefix)
        self.data = folder / "data"
        self.client_url = f"https://{address}:{client_port}"
        self.peer_url = f"https://{address}:{peer_port}"
        self.settings = dict(settings or {})
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, cluster: Mapping[str, str], state: str = "new") -> None:
        """Start it as a member of ``cluster`` (name to peer URL)."""
        tls = {"cert-file": str(self.tls.cert), "key-file": str(self.tls.key), "trusted-ca-file": str(self.tls.ca)}
        settings = {
            "name": self.name,
            "data-dir": str(self.data),
            "listen-client-urls": self.client_url,
            "advertise-client-urls": self.client_url,
            "listen-peer-urls": self.peer_url,
            "initial-advertise-peer-urls": self.peer_url,
            "initial-cluster": ",".join(f"{name}={url}" for name, url in cluster.items()),
            "initial-cluster-state": state,
            "enable-grpc-gateway": True,
            "max-txn-ops": 8192,
            "client-transport-security": {**tls, "client-cert-auth": True},
            "peer-transport-security": {**tls, "client-cert-auth": True},
            **self.settings,
        }
        config = self.folder / "etcd.json"
        config.write_text(json.dumps(settings))
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*self.prefix, "etcd", "--config-file", str(config)], stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )

    def wait_ready(self) -> None:
        """Until it answers that the cluster has a leader; only where it can be reached from here."""
        context = ssl.create_default_context(cafile=str(self.tls.ca))
        context.load_cert_chain(self.tls.cert, self.tls.key)
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            assert self.process is not None
            assert self.process.poll() is None, (self.folder / "log").read_text()[-2000:]
            try:
                with urllib.request.urlopen(f"{self.client_url}/health", timeout=1, context=context) as answer:  # noqa: S310
                    if json.load(answer)["health"] == "true":
                        return
            except OSError:
                pass
            assert time.monotonic() < deadline, "etcd did not come up:\n" + (self.folder / "log").read_text()[-2000:]
            time.sleep(0.05)

    def signal(self, number: Signals) -> None:
        """Send a signal to the process."""
        assert self.process is not None
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        """Power loss: no chance to say goodbye."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)
            self.process = None
