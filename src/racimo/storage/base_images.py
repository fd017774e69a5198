"""Base images of a directory: the disks of templates, which linked clones lie over."""

from __future__ import annotations

import contextlib
import os
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HEADER = struct.Struct(">4sIQI")
"""Magic, version, offset and length of the backing file's name (QEMU, docs/interop/qcow2)."""
MAGIC = b"QFI\xfb"


def is_base(name: str) -> bool:
    """Whether a volume's name is that of a base image, such as ``100/base-100-disk-0.qcow2``."""
    return name.partition("/")[2].startswith("base-")


def base_name(name: str) -> str:
    """The name as a base image."""
    folder, _, file = name.partition("/")
    return f"{folder}/base-{file.removeprefix('vm-')}"


def backing_of(path: Path) -> str | None:
    """The file that a qcow2 image lies over, as it names it. Raises ``OSError``."""
    with path.open("rb") as file:
        start = file.read(HEADER.size)
        if len(start) < HEADER.size:
            return None
        magic, _, offset, length = HEADER.unpack(start)
        if magic != MAGIC or not offset:
            return None
        file.seek(offset)
        return os.fsdecode(file.read(length))


def images_over(root: Path, base: Path) -> Iterator[str]:
    """Names of the images below ``root`` that lie over ``base``. Blocks."""
    for path in sorted(root.glob("images/*/*.qcow2")):
        with contextlib.suppress(FileNotFoundError):  # it went just now
            backing = backing_of(path)
            if backing is not None and os.path.normpath(path.parent / backing) == os.path.normpath(base):
                yield f"{path.parent.name}/{path.name}"
