"""One node of the lab: a systemd-nspawn container that boots systemd, and the faults that can befall it."""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import signal
import socket
import sys
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from racimo.errors import Conflict, OperationFailed
from racimo.lab.cgroup import Cgroup, unified
from racimo.lab.disk import NodeDisk, program_directories
from racimo.lab.network import NETWORKS, LabNetwork
from racimo.lab.process import Process, launch, output, tail
from racimo.lab.state import read_process, write_process

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from racimo.lab.place import LabPlace
    from racimo.lab.process import Output
    from racimo.lab.state import NodeSpec

BOOT_TIMEOUT_S = 60.0
END_TIMEOUT_S = 20.0
SHUTDOWN_TIMEOUT_S = 120.0
LOCK_TIMEOUT_S = 120.0
SHUTDOWN_SIGNAL = signal.SIGRTMIN + 4
"""What systemd as PID 1 takes for an orderly power-off (systemd(1))."""

BOOT = """
pid=$$
for group in $1; do echo $pid >"$group/cgroup.procs"; done
options=$2 root=$3
shift 3
mount -t overlay racimo-lab -o "$options" "$root"
exec "$@"
"""
ENVIRONMENT = {
    "PATH": f"{Path(sys.executable).parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "TERM": os.environ.get("TERM", "dumb"),
}
"""Of commands run in a node; ``racimo`` is found beside the interpreter that runs the lab."""


@dataclass(frozen=True, slots=True)
class LabNode:
    """A node and what the host knows of it. All its state is on disk: any process may hold such an object."""

    place: LabPlace
    spec: NodeSpec

    @property
    def name(self) -> str:
        """The node's name."""
        return self.spec.name

    @property
    def directory(self) -> Path:
        """Its directory on the host."""
        return self.place.node(self.name)

    @property
    def disk(self) -> NodeDisk:
        """Its disk, readable even when it is off."""
        return NodeDisk(self.directory)

    @property
    def console(self) -> Path:
        """What its container wrote while booting."""
        return self.directory / "console.log"

    @property
    def cgroup(self) -> Cgroup:
        """Its control groups."""
        return Cgroup(f"{self.place.name}/{self.name}")

    @property
    def network(self) -> LabNetwork:
        """The networks it is on."""
        return LabNetwork(self.place.name)

    @property
    def watchdog(self) -> Path:
        """The host's end of its watchdog; the node sees it as ``/run/racimo-lab/watchdog``."""
        return self.directory / "host" / "watchdog"

    @property
    def fence(self) -> Path:
        """The host's end of the way to the lab's fence devices; the node sees it as ``/run/racimo-lab/fence``."""
        return self.directory / "host" / "fence"

    @property
    def fence_fault(self) -> Path:
        """Where it is kept how the fence device that switches this node fails."""
        return self.directory / "fence-fault"

    def address(self, network: str = "cluster") -> str:
        """Its address on one of the lab's networks."""
        return next(n for n in NETWORKS if n.name == network).address(self.spec.index)

    @property
    def container(self) -> Process | None:
        """The container's own process on the host, if it runs."""
        process, _ = read_process(self.directory / "process.json")
        return process if process and process.alive else None

    @property
    def leader(self) -> Process | None:
        """Its PID 1, as the host sees it, if it runs."""
        _, leader = read_process(self.directory / "process.json")
        return leader if leader and leader.alive else None

    def demand_leader(self) -> Process:
        """Its PID 1. Raises ``Conflict`` when the node is off."""
        leader = self.leader
        if leader is None:
            raise Conflict(f"Node {self.name} is off", todo=f"Run: racimo lab start {self.name}")
        return leader

    @property
    def files(self) -> Path:
        """Its root directory as the host can read it: through its PID 1, or when it is off what it wrote."""
        leader = self.leader
        return Path(f"/proc/{leader.pid}/root") if leader else self.disk.upper

    @property
    def api_socket(self) -> Path:
        """Where the host reaches its API without login."""
        return Path(f"/proc/{self.demand_leader().pid}/root/run/racimo/node.sock")

    async def boot(self, *, ready: bool = True, timeout_s: float = BOOT_TIMEOUT_S) -> None:
        """Power it on with the disk that it has. With ``ready``, wait until its systemd has started everything.

        Raises ``Conflict`` when it is on, ``OperationFailed`` with the console's last lines when it does not boot.
        """
        async with self._alone():
            if self.container is not None:
                raise Conflict(f"Node {self.name} is on already")
            await self.network.connect(self.name, self.spec.index)
            self.cgroup.create()
            self.console.unlink(missing_ok=True)
            with self._notifications() as heard:
                container = await self._launch()
                write_process(self.directory / "process.json", container)
                try:
                    async with asyncio.timeout(timeout_s):
                        await self._await_boot(container, heard, ready=ready)
                except TimeoutError:
                    what = f"Node {self.name} did not boot within {timeout_s:.0f} s"
                    raise OperationFailed(what, why=tail(self.console) or "it said nothing") from None

    async def _launch(self) -> Process:
        groups = " ".join(str(directory) for directory in self.cgroup.directories)
        shell = ["unshare", "--mount", "--propagation", "slave", "sh", "-ec", BOOT, "sh", groups]
        overlay = [self.disk.mount_options, str(self.disk.root)]
        environment = {"NOTIFY_SOCKET": str(self.directory / "notify")}
        argv = (*shell, *overlay, *self._nspawn())
        return await launch('exec "$@"', *argv, log=self.console, environment=environment)

    def _nspawn(self) -> list[str]:
        devices = [device for device in ("/dev/net/tun", "/dev/fuse", "/dev/loop-control") if Path(device).exists()]
        # Entered before, too: what it mounts on /sys shows the network namespace that it was mounted in.
        argv = [
            "nsenter",
            f"--net={self.network.namespace_path(self.name)}",
            "systemd-nspawn",
            "--quiet",
            "-D",
            str(self.disk.root),
            f"--machine={self.place.name}-{self.name}",
        ]
        argv += ["--register=no", "--keep-unit", "--capability=all", "--link-journal=no", "--console=pipe"]
        argv += ["--resolv-conf=off", "--timezone=off", "--notify-ready=yes", f"--hostname={self.name}"]
        argv += [f"--network-namespace-path={self.network.namespace_path(self.name)}"]
        argv += [f"--bind={device}" for device in devices]
        argv += [f"--bind={self.place.shared}:/srv/shared", f"--bind={self.directory / 'host'}:/run/racimo-lab"]
        argv += [f"--bind-ro={directory}" for directory in program_directories()]
        argv.append("--boot")
        return argv if unified() else [*argv, "systemd.unified_cgroup_hierarchy=0"]

    @contextmanager
    def _notifications(self) -> Iterator[socket.socket]:
        path = self.directory / "notify"
        path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as heard:
            try:
                heard.bind(str(path))
                yield heard
            finally:
                path.unlink(missing_ok=True)

    async def _await_boot(self, container: Process, heard: socket.socket, *, ready: bool) -> None:
        loop = asyncio.get_running_loop()
        death = asyncio.create_task(container.ended(BOOT_TIMEOUT_S))
        try:
            while True:
                news = asyncio.create_task(loop.sock_recv(heard, 4096))
                await asyncio.wait({news, death}, return_when=asyncio.FIRST_COMPLETED)
                if not news.done():
                    news.cancel()
                    raise OperationFailed(
                        f"Node {self.name} did not boot", why=tail(self.console) or "its container ended"
                    )
                message = news.result().decode(errors="replace")
                if found := re.search(r"^X_NSPAWN_LEADER_PID=(\d+)$", message, re.MULTILINE):
                    write_process(self.directory / "process.json", container, Process.of(int(found[1])))
                    if not ready:
                        return
                if re.search(r"^READY=1$", message, re.MULTILINE):
                    return
        finally:
            death.cancel()
            await asyncio.wait({death})

    async def power_cut(self) -> bool:
        """Kill its PID 1, and with it every process: power loss. Returns when all is gone; False when it was off."""
        async with self._alone():
            container, leader = self.container, self.leader
            if self.cgroup.frozen:
                for doomed in self.cgroup.processes():
                    doomed.signal(signal.SIGKILL)  # so that none goes on for a moment when they are thawed to die
            for process in (leader or container,):
                if process is not None:
                    process.signal(signal.SIGKILL)
            if self.cgroup.frozen:
                await self.cgroup.thaw()
            if container is None:
                return False
            if not await container.ended(END_TIMEOUT_S):
                container.signal(signal.SIGKILL)
                await self._await_end(container, END_TIMEOUT_S)
            self._stop_watchdog()
            return True

    def _stop_watchdog(self) -> None:
        """A watchdog loses its power with its machine: one left armed would reset the node after its next start."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as voice, suppress(OSError):
            voice.sendto(b"disarm", str(self.watchdog))  # nobody listens when there is no supervisor

    async def shut_down(self, timeout_s: float = SHUTDOWN_TIMEOUT_S) -> None:
        """Switch it off in order: its services stop first. Raises ``OperationFailed`` when that takes too long."""
        async with self._alone():
            container = self.container
            self.demand_leader().signal(SHUTDOWN_SIGNAL)
            if container is not None:
                await self._await_end(container, timeout_s)
            self._stop_watchdog()

    async def _await_end(self, container: Process, timeout_s: float) -> None:
        if not await container.ended(timeout_s):
            what = f"Node {self.name} did not end within {timeout_s:.0f} s"
            raise OperationFailed(what, why=tail(self.console), todo=f"Run: racimo lab kill {self.name}")

    async def freeze(self) -> None:
        """Stop every process of it where it is. Time goes on."""
        self.demand_leader()
        await self.cgroup.freeze()

    async def thaw(self) -> None:
        """Let it go on."""
        self.demand_leader()
        await self.cgroup.thaw()

    def inside(self, command: Sequence[str]) -> list[str]:
        """The argument list that runs ``command`` in the node, for those who start it themselves (a terminal)."""
        environment = [f"{name}={value}" for name, value in ENVIRONMENT.items()]
        leader = self.demand_leader()
        return ["nsenter", "-t", str(leader.pid), "-a", "env", "-i", *environment, *command]

    async def execute(self, *command: str, feed: str = "", timeout_s: float = 60.0) -> Output:
        """Run a command in the node to its end, whatever its code. Raises ``Conflict`` when the node is off."""
        return await output(*self.inside(command), feed=feed, timeout_s=timeout_s)

    async def succeed(self, *command: str, feed: str = "", timeout_s: float = 60.0) -> str:
        """Run a command in the node; raises ``OperationFailed`` with what it said when it fails."""
        done = await self.execute(*command, feed=feed, timeout_s=timeout_s)
        if done.code != 0:
            why = (done.err or done.out).strip() or f"it ended with code {done.code}"
            raise OperationFailed(f"{' '.join(command[:4])} failed on {self.name}", why=why)
        return done.out

    def journalctl(self, *arguments: str) -> list[str]:
        """The argument list that shows its system log: also when it is off."""
        log = Path("/var/log/journal")
        return ["journalctl", f"--directory={self.files}{log}", "--no-pager", *arguments]

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        """Only one process of the host switches a node on or off at a time."""
        self.directory.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.directory / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            async with asyncio.timeout(LOCK_TIMEOUT_S):
                while True:
                    try:
                        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        break
                    except BlockingIOError:
                        await asyncio.sleep(0.02)  # flock gives no event
            yield
        except TimeoutError:
            raise Conflict(f"Node {self.name} is being switched by somebody else") from None
        finally:
            os.close(descriptor)
