"""Three etcd members in network namespaces of their own, joined by bridges in a fourth, apart from the host's network.

Each member has one link for its peers and one for clients, which can be cut apart. Clients of the test run on the host:
a forwarder inside the fourth namespace is given listening sockets of the host's loopback.
"""

from __future__ import annotations

import itertools
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from etcd_member import EtcdMember

if TYPE_CHECKING:
    from pathlib import Path

    from pki import TestAuthority

    from racimo.store.etcd import TlsFiles

_numbers = itertools.count()

FORWARDER = textwrap.dedent(
    """
    import asyncio, socket, sys

    async def pump(reader, writer):
        try:
            while chunk := await reader.read(65536):
                writer.write(chunk)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    def forward(host):
        async def serve(reader, writer):
            try:
                there = await asyncio.open_connection(host, 2379)
            except OSError:
                writer.close()
                return
            await asyncio.gather(pump(reader, there[1]), pump(there[0], writer))
        return serve

    async def main():
        servers = []
        for argument in sys.argv[1:]:
            number, host = argument.split("=")
            servers.append(await asyncio.start_server(forward(host), sock=socket.socket(fileno=int(number))))
        print("ready", flush=True)
        await asyncio.Event().wait()

    asyncio.run(main())
    """
)


class NetnsCluster:
    """``names`` are the members n1, n2, n3; ``endpoints`` their client URLs as the test reaches them."""

    names = ("n1", "n2", "n3")

    def __init__(self, folder: Path, authority: TestAuthority) -> None:
        self._undo = ExitStack()
        self._prefix = f"racimo-store-{os.getpid()}-{next(_numbers)}"
        self.folder, self.switch = folder, f"{self._prefix}-sw"
        self.members: dict[str, EtcdMember] = {}
        self.endpoints: dict[str, str] = {}
        self.tls = authority.issue("n-client")
        try:
            self._lay_network()
            self._listen()
            for number, name in enumerate(self.names, 1):
                addresses = ("127.0.0.1", f"10.0.0.{number}", f"10.0.1.{number}")
                self.members[name] = self._member(name, number, authority.issue(name, addresses))
                self._undo.callback(self.members[name].kill)
        except BaseException:
            self.close()
            raise

    def start(self) -> None:
        for member in self.members.values():
            member.start(self.peers)
        self.wait_healthy()

    @property
    def peers(self) -> dict[str, str]:
        return {name: member.peer_url for name, member in self.members.items()}

    def restart(self, name: str) -> None:
        self.members[name].start(self.peers, "existing")

    def heal(self) -> None:
        """Every member runs, is reachable and healthy again."""
        for name, member in self.members.items():
            self.link(name, "peers", up=True)
            self.link(name, "clients", up=True)
            if member.process is None or member.process.poll() is not None:
                member.kill()
                self.restart(name)
            else:
                member.signal(signal.SIGCONT)
        self.wait_healthy()

    def link(self, name: str, net: str, *, up: bool) -> None:
        """Connect a member to the others (``peers``) or to clients (``clients``), or cut it off without a word."""
        _ip("-n", self.switch, "link", "set", f"{net}-{name}", "up" if up else "down")

    def wait_healthy(self) -> None:
        deadline = time.monotonic() + 40
        for name in self.names:
            while not self.healthy(name):
                log = (self.members[name].folder / "log").read_text()[-1500:]
                assert time.monotonic() < deadline, f"{name} is not healthy\n{log}"
                time.sleep(0.1)

    def healthy(self, name: str) -> bool:
        environment = {**os.environ, "ETCDCTL_API": "3"}
        command = ["etcdctl", "--endpoints", self.endpoints[name], "--cacert", str(self.tls.ca)]
        command += ["--cert", str(self.tls.cert), "--key", str(self.tls.key)]
        command += ["--command-timeout", "2s", "--dial-timeout", "2s", "get", "health"]
        return subprocess.run(command, env=environment, capture_output=True, check=False).returncode == 0

    def close(self) -> None:
        self._undo.close()

    def _lay_network(self) -> None:
        self._namespace(self.switch)
        for net, number in (("peers", 0), ("clients", 1)):
            _ip("-n", self.switch, "link", "add", net, "type", "bridge")
            _ip("-n", self.switch, "link", "set", net, "up")
            _ip("-n", self.switch, "address", "add", f"10.0.{number}.254/24", "dev", net)
        for number, name in enumerate(self.names, 1):
            space = f"{self._prefix}-{name}"
            self._namespace(space)
            for net, third in (("peers", 0), ("clients", 1)):
                here = f"{net}-{name}"
                _ip("-n", self.switch, "link", "add", here, "type", "veth", "peer", "name", net, "netns", space)
                _ip("-n", self.switch, "link", "set", here, "master", net, "up")
                _ip("-n", space, "address", "add", f"10.0.{third}.{number}/24", "dev", net)
                _ip("-n", space, "link", "set", net, "up")

    def _namespace(self, name: str) -> None:
        _ip("netns", "add", name)
        self._undo.callback(_ip, "netns", "delete", name)
        _ip("-n", name, "link", "set", "lo", "up")

    def _listen(self) -> None:
        """Forward a port of the host's loopback to each member, from within the switch's namespace."""
        arguments, listeners = [], []
        for number, name in enumerate(self.names, 1):
            listener = socket.create_server(("127.0.0.1", 0))
            listeners.append(listener)
            arguments.append(f"{listener.fileno()}=10.0.1.{number}")
            self.endpoints[name] = f"https://127.0.0.1:{listener.getsockname()[1]}"
        forwarder = subprocess.Popen(
            ["ip", "netns", "exec", self.switch, sys.executable, "-c", FORWARDER, *arguments],
            pass_fds=[listener.fileno() for listener in listeners],
            stdout=subprocess.PIPE,
        )
        self._undo.callback(_end, forwarder)
        for listener in listeners:
            listener.close()
        assert forwarder.stdout is not None
        assert forwarder.stdout.readline() == b"ready\n"

    def _member(self, name: str, number: int, tls: TlsFiles) -> EtcdMember:
        member = EtcdMember(
            self.folder / name,
            name,
            tls,
            client_port=2379,
            peer_port=2380,
            address=f"10.0.0.{number}",
            prefix=("ip", "netns", "exec", f"{self._prefix}-{name}"),
            settings={"listen-client-urls": f"https://10.0.1.{number}:2379,https://127.0.0.1:2379"},
        )
        member.client_url = self.endpoints[name]
        member.settings["advertise-client-urls"] = self.endpoints[name]
        return member


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait(10)
    if process.stdout is not None:
        process.stdout.close()
