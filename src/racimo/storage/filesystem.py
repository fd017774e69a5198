"""What the file system under a path is and can do."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

NETWORK_TYPES = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "ceph", "ocfs2", "gfs2", "glusterfs", "9p", "virtiofs", "fuse.glusterfs",
     "fuse.ceph", "fuse.sshfs", "fuse.juicefs", "fuse.moosefs", "lustre", "beegfs"}
)  # fmt: skip
"""File system types that several machines can see at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSystem:
    """The file system of a path. ``network`` if several machines can see it at once."""

    type: str
    source: str
    mount_point: str
    network: bool


def find_file_system(path: Path, mountinfo: str | None = None) -> FileSystem:
    """The file system that holds ``path`` (proc(5), mountinfo). Raises ``OSError``."""
    if mountinfo is None:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            mountinfo = file.read()
    real, best = os.path.realpath(path), FileSystem(type="unknown", source="", mount_point="", network=False)
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        mount = _unescape(left.split()[4])
        if real == mount or real.startswith(mount.rstrip("/") + "/"):
            kind, source = right.split()[:2]
            if len(mount) >= len(best.mount_point):
                best = FileSystem(type=kind, source=_unescape(source), mount_point=mount, network=kind in NETWORK_TYPES)
    return best


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def opens_direct(path: Path) -> bool:
    """Whether this file can be opened with O_DIRECT (some network and memory file systems refuse)."""
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC))
    except OSError as error:
        if error.errno == errno.EINVAL:
            return False
        raise
    return True


def takes_locks(path: Path) -> bool:
    """Whether this file takes open-file-description locks (fcntl(2)), which QEMU holds on an image that it writes."""
    try:
        _find_lock(path, 0, 1)
    except OSError as error:
        if error.errno in {errno.EINVAL, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS}:
            return False
        raise
    return True


QEMU_LOCK_BYTES = (100, 200)
"""First byte and number of bytes on which QEMU keeps its locks (its block/file-posix.c)."""


def is_locked(path: Path) -> bool:
    """Whether a QEMU has this image open, on this node or on another if the file system passes locks on."""
    return takes_locks(path) and _find_lock(path, *QEMU_LOCK_BYTES) != fcntl.F_UNLCK


def _find_lock(path: Path, start: int, length: int) -> int:
    """The kind of a lock that would hinder writing these bytes."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        request = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, start, length, 0)
        kind: int = struct.unpack("hhqqi4x", fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, request))[0]
    finally:
        os.close(descriptor)
    return kind
