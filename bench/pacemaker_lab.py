"""corosync and pacemaker on bare nodes of the lab, with the lab's guest and the lab's fence devices: for failover.py.

Debian's packages are unpacked into the nodes' own disks: the machine itself gets nothing installed. The guest is a
primitive of an OCF agent of a few lines that runs the QEMU that Racimo would run: same disks, devices and limits.
"""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ha_lab import until

from racimo.errors import Refused
from racimo.lab.image import guest_image
from racimo.lab.process import run
from racimo.lab.together import together
from racimo.lab.watch import await_write, boot_clock, last_acknowledgement

if TYPE_CHECKING:
    from pathlib import Path

    from racimo.lab.lab import Lab
    from racimo.lab.node import LabNode

PACKAGES = ("pacemaker", "corosync", "pacemaker-cli-utils")
LEFT_OUT = ("libxslt1-dev",)
VMID = 100
OWNER, UID = "hacluster", 61990
REST_TIMEOUT_S = 120.0
FAILOVER_TIMEOUT_S = 90.0
JOURNAL_BYTES = 1 << 30
RESOURCE = "guest"
OPERATION_S = 10
"""How often pacemaker looks whether the guest runs. It is the node's death that is measured, so it plays no part."""

STICKY = (
    '<rsc_defaults><meta_attributes id="sticky"><nvpair id="sticky-100" name="resource-stickiness" value="100"/>'
    "</meta_attributes></rsc_defaults>"
)
SETTINGS = {
    "token_ms": "3000 (corosync 3.1's default) + 650 for the third node (its token_coefficient): 3650",
    "consensus": "1.2 x token (default)",
    "stonith": "enabled, stonith-action off, one fence_racimo_lab primitive per node, the device that Racimo uses",
    "resource-stickiness": "100",
    "everything else": "the packages' defaults",
}

COROSYNC = """totem {{
  version: 2
  cluster_name: bench
  crypto_cipher: none
  crypto_hash: none
}}
system {{
  move_to_root_cgroup: no
}}
logging {{
  to_syslog: yes
}}
quorum {{
  provider: corosync_votequorum
}}
nodelist {{
{nodes}}}
"""

AGENT = r"""#!/bin/sh
# The lab's guest under pacemaker (OCF): start, stop, monitor.
PID=/run/bench-guest.pid LOG=/var/log/racimo/guests/100
alive() { [ -s $PID ] && kill -0 "$(cat $PID)" 2>/dev/null; }
case $1 in
meta-data) cat <<'END'
<?xml version="1.0"?><resource-agent name="guest" version="1.0"><version>1.1</version><longdesc lang="en">-</longdesc>
<shortdesc lang="en">-</shortdesc><parameters/><actions><action name="start" timeout="60s"/>
<action name="stop" timeout="60s"/><action name="monitor" timeout="20s" interval="10s" depth="0"/>
<action name="meta-data" timeout="5s"/></actions></resource-agent>
END
exit 0;;
start)
  alive && exit 0
  read now rest </proc/uptime
  echo "$(uname -n) $now" >>/srv/shared/starts
  mkdir -p $LOG
  set -- @QEMU@
  setsid "$@" -fw_cfg name=opt/io.racimo/node,string="$(uname -n)" </dev/null >>$LOG/qemu.log 2>&1 &
  echo $! >$PID
  alive && exit 0 || exit 1;;
stop) alive && kill -9 "$(cat $PID)"; rm -f $PID; exit 0;;
monitor) alive && exit 0 || exit 7;;
*) exit 3;;
esac
"""

DISKS = "/srv/shared"
CONSOLE = "/var/log/racimo/guests/100/serial.log"
QEMU = (
    "qemu-system-x86_64", "-name", "racimo-guest-100", "-no-user-config", "-nodefaults",
    "-machine", "pc-i440fx-7.2,usb=off,acpi=on", "-accel", "tcg,thread=multi,tb-size=256", "-cpu", "kvm64",
    "-smp", "1,sockets=1,cores=1,maxcpus=1", "-m", "128M", "-rtc", "base=utc,driftfix=none",
    "-boot", "menu=off,strict=on,reboot-timeout=1000",
    "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
    "-fw_cfg", "name=opt/io.racimo/epoch,string=1",
    "-device", "vmgenid,guid=auto",
    "-device", "pci-bridge,id=pci.1,bus=pci.0,addr=0x1d,chassis_nr=1,shpc=off",
    "-chardev",
    f"socket,id=serial0,path=/run/bench-serial.sock,server=on,wait=off,logfile={CONSOLE},logappend=on",
    "-device", "isa-serial,chardev=serial0,index=0", "-display", "none", "-device", "VGA,bus=pci.0,addr=0x2",
    "-device", "virtio-serial-pci,id=qga0,bus=pci.0,addr=0xa",
    "-device", "piix3-usb-uhci,id=uhci,bus=pci.0,addr=0xc", "-device", "usb-tablet,bus=uhci.0,port=1",
    "-device", "virtio-balloon-pci,bus=pci.0,addr=0x3,free-page-reporting=on",
    *(word for number, (name, more) in enumerate((("system", "bootindex=100"), ("journal", "serial=journal")), start=1)
      for word in (
        "-blockdev",
        f"driver=file,filename={DISKS}/{name}.raw,node-name=f{number},cache.direct=on,aio=threads,locking=on",
        "-blockdev", f"driver=raw,node-name=d{number},file=f{number},cache.direct=on",
        "-device", f"virtio-blk-pci,bus=pci.1,addr=0x{number},drive=d{number},{more}")),
    "-netdev", "tap,id=net0,ifname=tap100i0,script=no,downscript=no,vhost=off",
    "-device", "virtio-net-pci,netdev=net0,mac=02:46:7e:d4:9b:d8,bus=pci.0,addr=0x10,rx_queue_size=1024,romfile=",
)  # fmt: skip


async def packages(cache: Path, *, install: bool) -> Path:
    """A directory tree with Debian's packages unpacked. Raises ``Refused``, naming them, unless ``install``."""
    tree = cache / "pacemaker"
    if (tree / ".complete").exists():
        return tree
    if not install:
        raise Refused(
            f"{' and '.join(PACKAGES)} are not there", why="they are needed for this comparison alone",
            todo="Run it with --install (it unpacks Debian's packages for the lab's nodes) or with --only racimo",
        )  # fmt: skip
    archives = cache / "pacemaker-archives"
    (archives / "partial").mkdir(parents=True, exist_ok=True)
    await run(
        "apt-get", "install", "--download-only", "--yes", "--no-install-recommends",
        "-o", f"Dir::Cache::archives={archives}", *PACKAGES, timeout_s=300.0,
    )  # fmt: skip
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir(parents=True)
    for package in sorted(archives.glob("*.deb")):
        if not package.name.startswith(LEFT_OUT):
            await run("dpkg", "-x", str(package), str(tree))
    for name in ("lib", "bin", "sbin"):  # the nodes' own are links into /usr
        if (tree / name).is_dir() and not (tree / name).is_symlink():
            await run("cp", "-a", f"{tree / name}/.", str(tree / "usr" / name))
            shutil.rmtree(tree / name)
    (tree / ".complete").touch()
    return tree


@dataclass(frozen=True, slots=True)
class PacemakerFailover:
    """Seconds from the power cut at ``at`` until the agent was told to start, and until the guest wrote."""

    source: str
    target: str
    commanded_s: float
    wrote_s: float


@dataclass(frozen=True, slots=True)
class PacemakerLab:
    """Three bare nodes under pacemaker."""

    lab: Lab

    async def begin(self, tree: Path) -> None:
        """Put pacemaker onto the nodes and the guest under it, and wait until it writes."""
        shared = self.lab.place.shared
        image = await asyncio.to_thread(guest_image, self.lab.place.cache)
        await asyncio.to_thread(shutil.copyfile, image, shared / "system.raw")
        with (shared / "journal.raw").open("wb") as disk:
            disk.truncate(JOURNAL_BYTES)
        (shared / "starts").touch()
        await together(*(self._equip(node, tree) for node in self.lab.nodes))
        await together(*(self._start(node) for node in self.lab.nodes))
        await self.online()
        await self._configure()
        await await_write(self.lab, VMID, 0, timeout_s=REST_TIMEOUT_S)

    async def _equip(self, node: LabNode, tree: Path) -> None:
        root = node.files
        nodes = "".join(
            f"  node {{\n    name: {other.name}\n    nodeid: {number}\n    ring0_addr: {other.address()}\n  }}\n"
            for number, other in enumerate(self.lab.nodes, start=1)
        )
        copy = self.lab.place.shared / "pacemaker"
        if not copy.exists():
            shutil.copytree(tree, copy, symlinks=True)
        await node.succeed("cp", "-a", f"{DISKS}/pacemaker/.", "/")
        agent = root / "usr/lib/ocf/resource.d/bench/guest"
        agent.parent.mkdir(parents=True, exist_ok=True)
        agent.write_text(AGENT.replace("@QEMU@", " ".join(f"'{word}'" for word in QEMU)))
        agent.chmod(0o755)
        (root / "etc/corosync/corosync.conf").write_text(COROSYNC.format(nodes=nodes))
        with (root / "etc/passwd").open("a") as file:
            file.write(f"{OWNER}:x:{UID}:{UID}::/var/lib/pacemaker:/usr/sbin/nologin\n")
        with (root / "etc/group").open("a") as file:
            file.write(f"haclient:x:{UID}:\n")
        kept = [f"/var/lib/pacemaker/{name}" for name in ("blackbox", "cib", "cores", "pengine")]
        folders = ["/var/lib/pacemaker", *kept, "/var/log/pacemaker"]
        await node.succeed("mkdir", "-p", *folders, "/var/lib/corosync", "/var/log/corosync")
        await node.succeed("chown", f"{UID}:{UID}", *folders)
        await node.succeed("systemctl", "daemon-reload")
        await node.succeed("systemctl", "enable", "corosync", "pacemaker")

    async def _start(self, node: LabNode) -> None:
        for unit in ("racimo-node", "racimo-ha", "racimo-guard"):
            await node.execute("systemctl", "disable", "--now", unit)
        await node.succeed("systemctl", "start", "corosync", "pacemaker")

    async def _configure(self) -> None:
        node = self.lab.nodes[0]
        for name, value in (("stonith-enabled", "true"), ("stonith-action", "off")):
            await node.succeed("crm_attribute", "--name", name, "--update", value)
        await node.succeed("cibadmin", "--modify", "--allow-create", "--scope", "rsc_defaults", "--xml-text", STICKY)
        for other in self.lab.nodes:
            await node.succeed("cibadmin", "--create", "--scope", "resources", "--xml-text", _fence_device(other.name))
        guest = (
            f'<primitive id="{RESOURCE}" class="ocf" provider="bench" type="guest"><operations>'
            f'<op id="{RESOURCE}-monitor" name="monitor" interval="{OPERATION_S}s" timeout="20s"/>'
            f'<op id="{RESOURCE}-start" name="start" interval="0s" timeout="60s"/></operations></primitive>'
        )
        await node.succeed("cibadmin", "--create", "--scope", "resources", "--xml-text", guest)

    async def online(self) -> None:
        """Wait until all nodes are members, by the word of each, and every fence device is there."""
        await until("all nodes are members", self._all_see_all, REST_TIMEOUT_S)

    async def _all_see_all(self) -> bool | None:
        for node in self.lab.nodes:
            shown = await node.succeed("crm_mon", "-1", "--output-as", "xml")
            if shown.count('online="true"') != len(self.lab.nodes) or 'with_quorum="true"' not in shown:
                return None
        return True

    async def at_rest(self) -> None:
        """Every node on and a member, every fence device started, the guest writing."""
        await together(*(node.boot(ready=False) for node in self.lab.nodes if node.container is None))
        await self.online()
        await until("the guest and the fence devices are started", self._all_started, REST_TIMEOUT_S)
        await await_write(self.lab, VMID, self._newest() + 5, timeout_s=REST_TIMEOUT_S)

    async def _all_started(self) -> bool | None:
        shown = await self.lab.nodes[0].succeed("crm_mon", "-1", "--output-as", "xml")
        return True if shown.count('role="Started"') == len(self.lab.nodes) + 1 else None

    def _newest(self) -> int:
        return max((entry.seq for node in self.lab.nodes if (entry := last_acknowledgement(node, VMID))), default=0)

    def starts(self) -> list[tuple[str, float]]:
        """Each time that an agent was told to start the guest: node, and seconds on CLOCK_BOOTTIME."""
        lines = (self.lab.place.shared / "starts").read_text().splitlines()
        return [(line.split()[0], float(line.split()[1])) for line in lines]

    async def cut_power(self) -> PacemakerFailover:
        """Cut the power of the guest's node, and wait until the guest writes elsewhere."""
        before = self.starts()
        node = self.lab.node(before[-1][0])
        at = boot_clock()
        await node.power_cut()

        async def started() -> tuple[str, float] | None:
            return self.starts()[-1] if len(self.starts()) > len(before) else None

        target, commanded = await until("a start command", started, FAILOVER_TIMEOUT_S)
        last = self._newest()
        await await_write(self.lab, VMID, last, timeout_s=FAILOVER_TIMEOUT_S, off=node.name)
        return PacemakerFailover(node.name, target, commanded - at, boot_clock() - at)

    async def versions(self) -> dict[str, str]:
        """Of what is compared."""
        node = self.lab.nodes[0]
        pacemaker = (await node.succeed("pacemakerd", "--version")).splitlines()[0]
        corosync = (await node.succeed("corosync", "-v")).splitlines()[0]
        token = (await node.succeed("corosync-cmapctl", "-g", "runtime.config.totem.token")).strip()
        return {"pacemaker": pacemaker, "corosync": corosync, "token in force": token}


def _fence_device(name: str) -> str:
    return (
        f'<primitive id="fence-{name}" class="stonith" type="fence_racimo_lab">'
        f'<instance_attributes id="fence-{name}-options">'
        f'<nvpair id="fence-{name}-plug" name="plug" value="{name}"/>'
        f'<nvpair id="fence-{name}-hosts" name="pcmk_host_list" value="{name}"/>'
        "</instance_attributes></primitive>"
    )
