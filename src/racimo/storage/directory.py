"""A directory as a storage, local or on a file system that several nodes share. Layout and names as Proxmox VE's.

``<path>/images/<vmid>/vm-<vmid>-disk-<n>.<format>``, ``template/iso``, ``import``, ``snippets``, ``dump``.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import structlog

from racimo.errors import AlreadyExists, BadParameter, Conflict, NotFound, OperationFailed, Refused
from racimo.storage import images
from racimo.storage.archive_names import ArchiveName, annotate, notes_file, notes_of, protected_file
from racimo.storage.arrival import MAX_NAME, Arrival
from racimo.storage.base import BlockSource, Capabilities, Content, Usage, Volume, VolumeId
from racimo.storage.base_images import base_name, images_over, is_base
from racimo.storage.filesystem import is_locked, opens_direct, takes_locks
from racimo.storage.leftovers import sweep

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from racimo.model.storage import Storage
    from racimo.storage.base import Progress

T = TypeVar("T")
log = structlog.get_logger()

IMAGE = re.compile(r"([1-9][0-9]{2,8})/(?:vm|base)-([1-9][0-9]{2,8})-[A-Za-z0-9][A-Za-z0-9_-]*\.(raw|qcow2)")
FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+@-]*")
FOLDERS = {
    Content.VZTMPL: "template/cache",
    Content.ISO: "template/iso",
    Content.IMPORT: "import",
    Content.SNIPPETS: "snippets",
    Content.BACKUP: "dump",
}
SUFFIXES = {
    Content.ISO: (".iso", ".img"), Content.IMPORT: (".qcow2", ".raw", ".vmdk", ".img"),
    Content.VZTMPL: (".tar.gz", ".tar.xz", ".tar.zst"),
}  # fmt: skip

ANSWER_TIMEOUT = 15.0
"""Seconds that the file system may take to answer; a network file system whose server is gone hangs."""

_WHICH = "See which are: racimo storage content STORAGE"
MAX_DISKS = 100
"""Disks that one guest may have on one storage."""

ARCHIVE_LEFTOVER_AGE = 3 * 86400.0
"""Seconds: a part of a backup is written once, and may wait for days until all others are."""

SPARE = 1 << 20
"""Bytes that are left free for the tables of the file system."""


class Directory:
    """The ``dir`` storage. Options: ``is_mountpoint`` (1 or a path), ``mkdir``, ``format``, ``preallocation``."""

    def __init__(self, definition: Storage) -> None:
        self.definition = definition
        self.root = Path(definition.path)
        self.options = dict(definition.options)

    @property
    def capabilities(self) -> Capabilities:
        """Thin files; shared if the definition says so."""
        preferred = self.options.get("format", "raw")
        return Capabilities(
            shared=self.definition.shared,
            snapshots=True,
            clones=True,
            snapshot_formats=("qcow2",),
            thin=self.options.get("preallocation", "off") in {"off", "metadata"},
            content=frozenset(Content(kind) for kind in self.definition.content),
            formats=tuple(sorted(images.FORMATS, key=lambda name: name != preferred)),
        )

    async def check(self) -> None:
        """Refuses a directory that is missing, or whose file system is not mounted where it must be."""
        await self._in_thread(self._check)

    def _check(self) -> None:
        name, wanted = self.definition.id, self.options.get("is_mountpoint", "0")
        if wanted not in {"0", "no", "off", "false", ""}:
            mount = Path(wanted) if wanted.startswith("/") else self.root
            if not os.path.ismount(mount):
                raise Refused(
                    f"The storage {name} is not usable on this node",
                    why=f"nothing is mounted on {mount}",
                    todo="Mount it, then try again",
                )
        elif self.options.get("mkdir", "1") in {"1", "yes", "on", "true"}:
            self.root.mkdir(parents=True, exist_ok=True)
        if not self.root.is_dir():
            raise Refused(
                f"The storage {name} is not usable on this node",
                why=f"the directory {self.root} does not exist",
                todo="Make it or mount it, then try again",
            )

    async def usage(self) -> Usage:
        """Space of the file system that holds it."""
        await self.check()
        found = await self._in_thread(lambda: os.statvfs(self.root))
        free = found.f_bavail * found.f_frsize
        return Usage(
            total=found.f_blocks * found.f_frsize, used=(found.f_blocks - found.f_bfree) * found.f_frsize, free=free
        )

    async def volumes(self, content: Content | None = None, vmid: int | None = None) -> list[Volume]:
        """What is on it. Files whose names are not a storage's are left out."""
        await self.check()
        found = await self._in_thread(lambda: list(self._scan(content)))
        return sorted((each for each in found if vmid is None or each.vmid == vmid), key=lambda each: each.id)

    def _scan(self, content: Content | None) -> Iterator[Volume]:
        names = [f"{path.parent.name}/{path.name}" for path in self.root.glob("images/*/*")]
        if content in {None, Content.IMAGES}:
            yield from self._existing(name for name in names if IMAGE.fullmatch(name))
        for kind, folder in FOLDERS.items():
            if content in {None, kind}:
                files = (path.name for path in self.root.glob(f"{folder}/[!.]*") if path.is_file())
                endings = SUFFIXES.get(kind, ("",))
                if kind is Content.BACKUP:
                    files = (name for name in files if ArchiveName.parse(name))
                yield from self._existing(f"{kind}/{name}" for name in files if name.endswith(endings))

    def _existing(self, names: Iterator[str]) -> Iterator[Volume]:
        for name in names:
            try:
                yield self._look(name)
            except (OSError, ValueError, NotFound) as error:
                log.warning("a file of a storage was left out", storage=self.definition.id, name=name, why=str(error))

    async def volume(self, name: str) -> Volume:
        """One volume."""
        await self.check()
        self._where(name)
        return await self._in_thread(lambda: self._look(name))

    def _look(self, name: str) -> Volume:
        path = self._where(name)
        try:
            found = path.stat()
        except FileNotFoundError as error:
            raise self._missing(name) from error
        match = IMAGE.fullmatch(name)
        if name.startswith(f"{Content.BACKUP}/"):
            return self._archive(name, path, found)
        image_format = match[3] if match else images.format_of(path)
        return Volume(
            id=VolumeId(self.definition.id, name),
            content=Content.IMAGES if match else Content(name.partition("/")[0]),
            format=image_format,
            size=images.virtual_size(path, image_format),
            used=found.st_blocks * 512,
            vmid=int(match[1]) if match else None,
            ctime=found.st_ctime,
        )

    def _archive(self, name: str, path: Path, found: os.stat_result) -> Volume:
        archive = ArchiveName.parse(path.name)
        if archive is None:
            raise self._missing(name)
        return Volume(
            id=VolumeId(self.definition.id, name), content=Content.BACKUP, format=archive.format, size=found.st_size,
            used=found.st_blocks * 512, vmid=archive.vmid, ctime=archive.ctime, notes=notes_of(path),
            protected=protected_file(path).exists(),
        )  # fmt: skip

    async def dump(self) -> Path:
        """``dump``. What was left half-made there days ago is removed."""
        await self.check()
        if Content.BACKUP not in self.capabilities.content:
            raise Refused(
                f"The storage {self.definition.id} takes no backups",
                why=f"its content is {', '.join(self.definition.content)}",
                todo="Add 'backup' to its content, or choose another storage",
            )
        folder = self.root / FOLDERS[Content.BACKUP]
        await self._in_thread(lambda: folder.mkdir(parents=True, exist_ok=True))
        await self._in_thread(lambda: sweep(folder, ARCHIVE_LEFTOVER_AGE))
        return folder

    async def annotate(self, name: str, notes: str | None, *, protected: bool | None) -> None:
        """By files beside the archive."""
        if (await self.volume(name)).content is not Content.BACKUP:
            raise Refused(f"{self.definition.id}:{name} was not changed", why="it is no backup", todo=_WHICH)
        await self._in_thread(lambda: annotate(self._where(name), notes, protected=protected))

    def _where(self, name: str) -> Path:
        """The file of a volume. Raises ``NotFound`` for a name that no volume of this storage can have."""
        if match := IMAGE.fullmatch(name):
            if match[1] == match[2]:
                return self.root / "images" / name
        else:
            kind, _, file = name.partition("/")
            if kind in set(FOLDERS) and FILE.fullmatch(file):
                return self.root / FOLDERS[Content(kind)] / file
        raise NotFound(
            f"The volume {self.definition.id}:{name} does not exist",
            why="a directory holds <vmid>/vm-<vmid>-<name>.raw or .qcow2, iso/, import/, snippets/ and backup/",
        )

    def _missing(self, name: str) -> NotFound:
        return NotFound(
            f"The volume {self.definition.id}:{name} does not exist",
            why=f"there is no file {self._where(name)} on this node",
            todo="Look at the content of the storage",
        )

    async def path(self, name: str) -> Path:
        """The file of a volume."""
        await self.check()
        found = self._where(name)
        if not await self._in_thread(found.is_file):
            raise self._missing(name)
        return found

    async def block(self, name: str) -> BlockSource:
        """The file, with what its file system allows."""
        path = await self.path(name)
        match = IMAGE.fullmatch(name)
        return BlockSource(
            format=match[3] if match else "raw",
            protocol={"driver": "file", "filename": str(path)},
            direct=await self._in_thread(lambda: opens_direct(path)),
            locking=await self._in_thread(lambda: takes_locks(path)),
            shared=self.definition.shared,
        )

    async def allocate(
        self, vmid: int, size: int, *, image_format: str | None = None, name: str | None = None
    ) -> VolumeId:
        """An empty image. Only complete ones ever have their name: it is made under another and renamed."""
        chosen = self._format(image_format)
        preallocation = self.options.get("preallocation", "off")
        if chosen == "raw" and preallocation == "metadata":
            preallocation = "off"
        needed = size if preallocation in {"falloc", "full"} else 0

        async def make(path: Path) -> None:
            await images.create_image(path, chosen, size, preallocation)

        return await self._make(vmid, chosen, needed, make, name)

    async def clone(self, name: str, vmid: int) -> VolumeId:
        """A qcow2 image over the base image, which it names by a relative path."""
        base = await self.volume(name)
        if not is_base(name):
            raise Refused(f"{base.id} has no linked clones", why="it is not the disk of a template", todo="Copy it")
        backing = f"../{name}"

        async def make(path: Path) -> None:
            await images.create_overlay(path, backing, base.format)

        return await self._make(vmid, "qcow2", 0, make, None)

    async def dependants(self, name: str) -> tuple[str, ...]:
        """The qcow2 images of this directory that lie over it."""
        path = await self.path(name)
        return await self._in_thread(lambda: tuple(images_over(self.root, path))) if is_base(name) else ()

    async def import_image(
        self,
        vmid: int,
        source: Path,
        *,
        image_format: str | None = None,
        name: str | None = None,
        progress: Progress | None = None,
        own_format: str | None = None,
        snapshot: str | None = None,
    ) -> VolumeId:
        """A copy of an image file. One that refers to other files is refused: it could name any file of the node."""
        chosen = self._format(image_format)
        found = await images.image_info(source, own_format)
        if (found.backing and own_format is None) or found.data_file:
            raise Refused(
                f"{source} was not imported",
                why=f"it refers to another file, {found.backing or found.data_file}",
                todo="Flatten it with 'qemu-img convert' first",
            )
        if found.format not in images.SOURCE_FORMATS:
            raise Refused(
                f"{source} was not imported",
                why=f"its format {found.format} is not supported",
                todo="Convert it first: qemu-img convert -O qcow2 SOURCE TARGET",
            )
        needed = await images.measure_image(source, found.format, chosen)

        async def make(path: Path) -> None:
            await images.convert_image(source, path, found.format, chosen, progress, snapshot)

        return await self._make(vmid, chosen, needed, make, name)

    def _format(self, asked: str | None) -> str:
        chosen = asked or self.capabilities.formats[0]
        if chosen not in images.FORMATS:
            raise Refused(
                f"The storage {self.definition.id} cannot hold {chosen} images",
                why=f"a directory holds {' and '.join(images.FORMATS)}",
                todo="Name one of these formats, or none",
            )
        return chosen

    async def _make(
        self, vmid: int, image_format: str, needed: int, make: Callable[[Path], Awaitable[None]], name: str | None
    ) -> VolumeId:
        """Let ``make`` write a file that has no volume's name, then give it one."""
        if Content.IMAGES not in self.capabilities.content:
            raise Refused(
                f"The storage {self.definition.id} takes no disk images",
                why=f"its content is {', '.join(self.definition.content)}",
                todo="Add 'images' to its content, or choose another storage",
            )
        free = (await self.usage()).free
        if needed + SPARE > free:
            raise self._full(needed, free)
        folder = self.root / "images" / str(vmid)
        temporary = folder / f".{secrets.token_hex(8)}.tmp"
        try:
            await self._in_thread(lambda: folder.mkdir(parents=True, exist_ok=True))
            await self._in_thread(lambda: sweep(folder))
            await make(temporary)
            return await self._publish(temporary, vmid, image_format, name)
        except images.NoSpace as error:
            raise self._full(needed, (await self.usage()).free, error.why) from error
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise self._full(needed, (await self.usage()).free, str(error)) from error
            raise OperationFailed(
                f"The storage {self.definition.id} failed",
                why=str(error),
                todo=f"See that {self.root} is there, mounted and writable on this node",
            ) from error
        finally:
            temporary.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                folder.rmdir()  # only if nothing is in it

    async def _publish(self, temporary: Path, vmid: int, image_format: str, name: str | None) -> VolumeId:
        """Give a complete file its name. When this is cancelled half-way, the name is taken away again."""
        giving = asyncio.ensure_future(asyncio.to_thread(self._give_name, temporary, vmid, image_format, name))
        try:
            return await asyncio.shield(giving)
        except asyncio.CancelledError:
            given = await giving
            self._where(given.name).unlink(missing_ok=True)
            raise

    def _give_name(self, temporary: Path, vmid: int, image_format: str, name: str | None) -> VolumeId:
        """By a hard link, which unlike a rename never replaces what another node put there meanwhile."""
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        for number in range(MAX_DISKS):
            chosen = name or f"{vmid}/vm-{vmid}-disk-{number}.{image_format}"
            path = self._where(chosen)
            if name is None and any(path.with_suffix(f".{other}").exists() for other in images.FORMATS):
                continue
            try:
                os.link(temporary, path)
            except FileExistsError as error:
                if name:
                    raise AlreadyExists(
                        f"The volume {self.definition.id}:{name} already exists",
                        todo=f"Take another name; what is there: racimo storage content {self.definition.id}",
                    ) from error
                continue
            descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            return VolumeId(self.definition.id, chosen)
        raise Refused(
            f"The guest {vmid} gets no more disks on {self.definition.id}",
            why=f"it has {MAX_DISKS} already",
            todo="Remove one that it does not need, or use another storage",
        )

    def _full(self, needed: int, free: int, said: str = "") -> Refused:
        return images.NoSpace(
            f"There is no space on the storage {self.definition.id}",
            why=f"{needed} bytes are needed and {max(free - SPARE, 0)} bytes are free" + (f" ({said})" if said else ""),
            todo="Free space there or choose another storage; what had been begun was removed",
        )

    async def arrive(self, content: Content, file: str, size: int = 0) -> Arrival:
        """Into the content's folder, under no volume's name."""
        if content not in SUFFIXES or content not in self.capabilities.content:
            raise Refused(
                f"The storage {self.definition.id} takes no files of content '{content}'",
                why=f"its content is {', '.join(self.definition.content)}",
                todo=f"Add it: racimo api PUT /storage/{self.definition.id} content=LIST",
            )
        endings = SUFFIXES[content]
        if not FILE.fullmatch(file) or ".." in file or len(file) > MAX_NAME or not file.endswith(endings):
            allowed = f"letters, digits and . _ + @ - of them, at most {MAX_NAME}, ending in {', '.join(endings)}"
            raise BadParameter({"filename": f"'{file[:80]}' is no name of such a file: {allowed}"})
        free = (await self.usage()).free
        if size + SPARE > free:
            raise self._full(size, free)
        name = f"{content}/{file}"
        arrival = Arrival(VolumeId(self.definition.id, name), self._where(name))
        folder = self.root / FOLDERS[content]

        def begin() -> None:
            folder.mkdir(parents=True, exist_ok=True)
            sweep(folder)
            arrival.open()

        try:
            await self._in_thread(begin)
        except OSError as error:
            raise OperationFailed(f"The storage {self.definition.id} failed", why=str(error)) from error
        return arrival

    async def resize(self, name: str, size: int) -> None:
        """Grow an image that no QEMU has open."""
        found = await self.volume(name)
        if found.content is not Content.IMAGES:
            raise Refused(f"The volume {found.id} cannot be resized", why="it is no disk image", todo=_WHICH)
        if size < found.size:
            raise Refused(
                f"The volume {found.id} was not resized",
                why=f"{size} bytes are less than its {found.size}, and shrinking loses data",
                todo="Give a larger size",
            )
        await self._unused(name, "resized")
        await images.resize_image(self._where(name), found.format, size)

    async def give(self, name: str, vmid: int) -> VolumeId:
        """Rename an image that no QEMU has open. Broken off half-way it has both names, and nothing is lost."""
        path = await self.path(name)
        given = await self.link(name, vmid)
        await self._in_thread(path.unlink)
        with contextlib.suppress(OSError):
            path.parent.rmdir()  # only if nothing is in it
        return given

    async def link(self, name: str, vmid: int, *, base: bool = False) -> VolumeId:
        """A hard link."""
        path = await self.path(name)
        match = IMAGE.fullmatch(name)
        if match is None:
            raise Refused(
                f"The volume {self.definition.id}:{name} cannot be renamed", why="it is no disk image", todo=_WHICH
            )
        await self._unused(name, "renamed")
        folder = self.root / "images" / str(vmid)
        await self._in_thread(lambda: folder.mkdir(parents=True, exist_ok=True))
        chosen = base_name(name) if base else None
        return await self._in_thread(lambda: self._give_name(path, vmid, match[3], chosen))

    async def snapshots(self, name: str) -> tuple[str, ...]:
        """Those inside a qcow2 image; none of a raw one."""
        found = await self.volume(name)
        return (await images.image_info(self._where(name), found.format)).snapshots

    async def snapshot(self, name: str, label: str) -> None:
        """Inside the image, which must be qcow2."""
        await self._change_snapshot(name, label, "-c")

    async def rollback(self, name: str, label: str) -> None:
        """The image is then what it was, its size included."""
        await self._change_snapshot(name, label, "-a")

    async def drop_snapshot(self, name: str, label: str) -> None:
        """What only the snapshot held is free space inside the image."""
        await self._change_snapshot(name, label, "-d")

    async def _change_snapshot(self, name: str, label: str, action: str) -> None:
        found = await self.volume(name)
        if found.format not in self.capabilities.snapshot_formats:
            raise Refused(f"{found.id} has no snapshots", why=f"it is {found.format}, not qcow2", todo="Convert it")
        await self._unused(name, "changed")
        await images.change_snapshot(self._where(name), action, label)

    async def delete(self, name: str) -> None:
        """Remove a volume that no QEMU has open; the guest's folder goes with its last image."""
        path = await self.path(name)
        await self._unused(name, "removed")
        if over := await self.dependants(name):
            raise Refused(
                f"The volume {self.definition.id}:{name} was not removed",
                why=f"linked clones need it: {', '.join(over)}",
                todo="Destroy these clones first, or move their disks: a moved disk needs no other",
            )
        found = protected_file(path)
        if name.startswith(f"{Content.BACKUP}/") and await self._in_thread(found.exists):
            raise Refused(
                f"The backup {self.definition.id}:{name} was not removed", why="it is protected",
                todo=f"First: racimo backup set {self.definition.id}:{name} --unprotected",
            )  # fmt: skip
        await self._in_thread(path.unlink)
        if name.startswith(f"{Content.BACKUP}/"):
            await self._in_thread(lambda: notes_file(path).unlink(missing_ok=True))
        if IMAGE.fullmatch(name):
            with contextlib.suppress(OSError):
                path.parent.rmdir()  # only if nothing is in it

    async def _unused(self, name: str, done: str) -> None:
        if await self._in_thread(lambda: is_locked(self._where(name))):
            raise Conflict(
                f"The volume {self.definition.id}:{name} was not {done}",
                why="a QEMU has it open",
                todo="Stop the guest that uses it first",
            )

    async def _in_thread(self, call: Callable[[], T]) -> T:
        """Run what may hang when a server is gone; ``Refused`` if it does."""
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT):
                return await asyncio.to_thread(call)
        except TimeoutError as error:
            raise Refused(
                f"The storage {self.definition.id} does not answer on this node",
                why=f"the file system of {self.root} gave no answer within {ANSWER_TIMEOUT:g} s",
                todo="Check the server or the disk behind it",
            ) from error
