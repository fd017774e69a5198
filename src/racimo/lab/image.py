"""The lab guest: a small bootable disk made of Debian's cloud kernel, busybox and one shell script.

Nothing is installed on the host and nothing is mounted: the kernel package is fetched and unpacked into the cache, the
FAT partition is written with mtools and made bootable with syslinux. The image is made anew only when its recipe
changes: the kernel package, busybox, the script, or this file.

``python -m racimo.lab.image`` makes it, unless it is there, and prints where it is.
"""

from __future__ import annotations

import hashlib
import lzma
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from racimo.errors import OperationFailed, RacimoError
from racimo.lab.initramfs import Initramfs
from racimo.lab.place import LabPlace
from racimo.lab.requirements import IMAGE_TOOLS, demand

if TYPE_CHECKING:
    from collections.abc import Iterable

log = structlog.get_logger()

SIZE = 64 << 20
"""Size of the disk in bytes; sparse, some 22 MiB are used."""
SECTOR = 512
PARTITION_START = 2048
"""First sector of the only partition."""
FIRST_MODULES = ("virtio_pci", "virtio_blk", "virtio_scsi", "sd_mod", "qemu_fw_cfg")
"""Kernel modules that the journal needs, loaded before it starts, in this order, each after what it depends on."""
LATER_MODULES = (
    "virtio_net", "virtio_console", "ata_piix", "sr_mod", "isofs", "nls_ascii", "button", "evdev", "virtio_balloon",
    "virtio-rng",
)  # fmt: skip
"""Those that may come when the journal runs."""
COMMAND_LINE = (
    "console=ttyS0 quiet loglevel=3 panic=-1 tsc=reliable no_timer_check nokaslr mitigations=off random.trust_cpu=on "
    "rcupdate.rcu_expedited=1 cryptomgr.notests 8250.nr_uarts=1 i8042.noaux i8042.nokbd net.ifnames=0"
)
KERNEL_PACKAGE = "linux-image-cloud-amd64"
SCRIPT = Path(__file__).parent / "guest" / "init"
BUSYBOX = Path("/bin/busybox")
MASTER_BOOT_RECORD = Path("/usr/lib/syslinux/mbr/mbr.bin")
FETCH_TIMEOUT_S = 300.0


def run(*argv: str | Path, cwd: Path | None = None, timeout_s: float = 60.0) -> str:
    """Run a tool to its end and return what it printed. Raises ``OperationFailed`` with what it said instead."""
    try:
        done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired as late:
        raise OperationFailed(f"{argv[0]} did not end within {timeout_s:.0f} s", why=" ".join(map(str, argv))) from late
    if done.returncode != 0:
        raise OperationFailed(
            f"{argv[0]} failed", why=(done.stderr or done.stdout).strip() or f"code {done.returncode}"
        )
    return done.stdout


class Kernel:
    """Debian's cloud kernel, unpacked in the cache: ``image`` and ``modules`` (the directory of its release)."""

    def __init__(self, tree: Path) -> None:
        self.image = next(iter(sorted(tree.glob("boot/vmlinuz-*"))))
        self.release = self.image.name.removeprefix("vmlinuz-")
        root = tree if (tree / "lib/modules").is_dir() else tree / "usr"
        self.modules = root / "lib/modules" / self.release
        if not (self.modules / "modules.dep").exists():
            run("depmod", "-b", root, self.release)

    def module_files(self, names: Iterable[str]) -> list[Path]:
        """Files of the modules named and of all they need, in loading order. Built-in and unknown ones are left out."""
        needs: dict[str, list[str]] = {}
        for line in (self.modules / "modules.dep").read_text().splitlines():
            path, _, rest = line.partition(":")
            needs[path] = rest.split()
        by_name = {re.sub(r"\.ko.*", "", Path(path).name).replace("-", "_"): path for path in needs}
        ordered: dict[str, None] = {}
        for name in names:
            if found := by_name.get(name.replace("-", "_")):
                ordered |= dict.fromkeys([*reversed(needs[found]), found])
        return [self.modules / path for path in ordered]


def fetch_kernel(cache: Path) -> Kernel:
    """The kernel that Debian's meta package names today, from the cache or from the archive.

    Raises ``OperationFailed`` when there is none in the cache and the archive cannot be reached.
    """
    kept = sorted((cache / "kernel").glob("linux-image-*"), key=lambda path: path.stat().st_mtime)
    named = re.findall(r"Depends: (linux-image-\S+)", run("apt-cache", "depends", "--important", KERNEL_PACKAGE))
    tree = cache / "kernel" / named[0] if named else None
    if tree is None or not tree.is_dir():
        try:
            return _unpack(named, cache)
        except OperationFailed:
            if not kept:
                raise
            log.warning("lab.kernel.kept", why="the archive could not be reached", kernel=kept[-1].name)
            tree = kept[-1]
    return Kernel(tree)


def _unpack(named: list[str], cache: Path) -> Kernel:
    if not named:
        todo = "Run apt-get update, then try again"
        raise OperationFailed(
            f"No package {KERNEL_PACKAGE} is known to apt", why="its lists are empty or old", todo=todo
        )
    (cache / "kernel").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache / "kernel", prefix="tmp-") as scratch:
        work = Path(scratch)
        command = ("apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", named[0])
        run(*command, cwd=work, timeout_s=FETCH_TIMEOUT_S)
        run("dpkg-deb", "-x", next(work.glob("*.deb")), work / "tree")
        tree = cache / "kernel" / named[0]
        try:
            (work / "tree").rename(tree)
        except OSError:
            if not tree.is_dir():
                raise
            log.info("lab.kernel.fetched_twice", kernel=named[0])
    return Kernel(tree)


def initramfs(kernel: Kernel) -> bytes:
    """The guest's whole file system: busybox, the script and the modules it loads."""
    archive = Initramfs()
    for directory in ("bin", "dev", "proc", "sys", "run", "seed", "www", "tmp", "etc/acpi/PWRF", "lib/modules"):
        archive.directory(directory)
    archive.device("dev/console", 5, 1)
    archive.device("dev/null", 1, 3)
    archive.file("init", SCRIPT.read_bytes(), 0o755)
    archive.file("bin/busybox", BUSYBOX.read_bytes(), 0o755)
    archive.link("bin/sh", "busybox")
    archive.file("etc/acpi/PWRF/00000080", b"#!/bin/sh\necho shutdown >/dev/ttyS0\nsync\npoweroff -f\n", 0o755)
    archive.file("etc/udhcpc", UDHCPC, 0o755)
    for group, names in {"first": FIRST_MODULES, "later": LATER_MODULES}.items():
        order = ""
        for module in kernel.module_files(names):
            name = module.name.partition(".")[0]
            content = lzma.decompress(module.read_bytes()) if module.suffix == ".xz" else module.read_bytes()
            archive.file(f"lib/modules/{name}.ko", content)
            order += name + "\n"
        archive.file(f"lib/modules/{group}", order.encode())
    return archive.close()


UDHCPC = b"""#!/bin/sh
[ "$1" = bound ] || [ "$1" = renew ] || exit 0
ip addr flush dev $interface
ip addr add $ip/$mask dev $interface
[ -n "$router" ] && ip route replace default via ${router%% *} dev $interface
"""


def write_image(target: Path, kernel: Kernel) -> None:
    """Write the bootable disk to ``target``: one active FAT partition with syslinux, kernel and initramfs."""
    sectors = SIZE // SECTOR - PARTITION_START
    record = bytearray(MASTER_BOOT_RECORD.read_bytes()[:440].ljust(SECTOR, b"\0"))
    entry = bytes([0x80, 0xFE, 0xFF, 0xFF, 0x0E, 0xFE, 0xFF, 0xFF])  # active, FAT16 by logical addresses
    record[446:462] = entry + PARTITION_START.to_bytes(4, "little") + sectors.to_bytes(4, "little")
    record[510:512] = b"\x55\xaa"
    with target.open("wb") as disk:
        disk.write(record)
        disk.truncate(SIZE)
    partition = f"{target}@@{PARTITION_START * SECTOR}"
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        files = {"syslinux.cfg": _boot_loader(), "linux": kernel.image.read_bytes(), "initrd": initramfs(kernel)}
        paths = []
        for name, content in files.items():
            paths.append(Path(scratch) / name)
            paths[-1].write_bytes(content)
        run(
            "mformat",
            "-i",
            partition,
            "-H",
            str(PARTITION_START),
            "-T",
            str(sectors),
            "-h",
            "64",
            "-s",
            "32",
            "-c",
            "16",
            "::",
        )
        run("syslinux", "--install", "--offset", str(PARTITION_START * SECTOR), target)
        run("mcopy", "-i", partition, *paths, "::")


def _boot_loader() -> bytes:
    lines = ("DEFAULT linux", "PROMPT 0", "LABEL linux", "KERNEL linux", "INITRD initrd", f"APPEND {COMMAND_LINE}", "")
    return "\n".join(lines).encode()


def recipe(kernel: Kernel) -> str:
    """What the image is made of, as 16 hexadecimal digits."""
    digest = hashlib.sha256(kernel.release.encode())
    for source in (BUSYBOX, SCRIPT, MASTER_BOOT_RECORD, Path(__file__), Path(__file__).with_name("initramfs.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def guest_image(cache: Path) -> Path:
    """Path of the lab guest's disk (raw), made now unless the cache has it. Raises ``OperationFailed``, ``Refused``."""
    demand(IMAGE_TOOLS)
    kernel = fetch_kernel(cache)
    image = cache / f"guest-{recipe(kernel)}.raw"
    if image.is_file():
        return image
    draft = image.with_suffix(f".{os.getpid()}.tmp")
    try:
        write_image(draft, kernel)
        draft.rename(image)
    finally:
        draft.unlink(missing_ok=True)
    for old in cache.glob("guest-*.raw"):
        if old != image:
            old.unlink(missing_ok=True)
    return image


def main() -> int:
    """Make the image unless it is there; say where it is."""
    try:
        image = guest_image(LabPlace.from_environment().cache)
    except RacimoError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    used = shutil.disk_usage(image.parent).free
    sys.stdout.write(
        f"Lab guest image: {image} ({image.stat().st_blocks * 512 >> 20} MiB used, {used >> 30} GiB free there)\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
