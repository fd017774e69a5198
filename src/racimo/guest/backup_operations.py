"""Backups as operations: ``vzdump`` of many guests one after another, each as a task of its own under its lock."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from racimo.errors import BadParameter, NotFound, OperationFailed, RacimoError
from racimo.guest.backup import BackupWish, Mode, back_up
from racimo.guest.operations import GuestOperation
from racimo.model.guest import MAX_VMID, MIN_VMID
from racimo.storage.retention import Keep, prune
from racimo.task.operation import Operation

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import AsyncExitStack

    from racimo.guest.lifecycle import Lifecycle
    from racimo.model.guest import Guest
    from racimo.task.operation import Report
    from racimo.task.runner import TaskRunner


@dataclass(frozen=True, slots=True)
class Backups:
    """What backups of many guests need."""

    life: Lifecycle
    tasks: TaskRunner
    user: str


@dataclass(frozen=True, slots=True)
class _Both:
    """Tells the task of one guest and the one of all of them."""

    own: Report
    outer: Report
    vmid: int

    def log(self, text: str) -> None:
        """To both."""
        self.own.log(text)
        self.outer.log(f"{self.vmid}: {text}")

    def warn(self, text: str) -> None:
        """To both."""
        self.own.warn(text)
        self.outer.warn(f"{self.vmid}: {text}")

    def progress(self, fraction: float, text: str = "") -> None:
        """To both."""
        self.own.progress(fraction, text)
        self.outer.progress(fraction, f"{self.vmid}: {text}")


@dataclass(frozen=True, kw_only=True)
class BackUpGuest(GuestOperation):
    """Back one guest up; ``outer`` hears what is done too."""

    kind: ClassVar[str] = "qmbackup"
    wish: BackupWish
    outer: Report | None = None

    async def execute(self, services: Lifecycle, report: Report, undo: AsyncExitStack) -> None:
        await back_up(services, self.vmid, self.wish, _Both(report, self.outer, self.vmid) if self.outer else report)


@dataclass(frozen=True, kw_only=True)
class Vzdump(Operation[Backups]):
    """Back up the guests ``vmids`` of this node, or with ``every`` all of them but ``exclude``.

    One that fails stops no other; the task ends as ``job errors`` then.
    """

    kind: ClassVar[str] = "vzdump"
    vmids: tuple[int, ...] = ()
    every: bool = False
    exclude: tuple[int, ...] = ()
    storage: str
    mode: Mode = Mode.SNAPSHOT
    compress: bool = True
    template: str = ""
    """Notes, in which ``{{guestname}}``, ``{{vmid}}``, ``{{node}}`` and ``{{cluster}}`` stand for what they name."""
    protected: bool = False
    limit: int = 0
    keep: Keep | None = None
    """What is kept of each guest's backups on that storage, after a new one; None: all."""
    cluster: str = field(default="", compare=False)

    @property
    def subject(self) -> str:
        return str(self.vmids[0]) if len(self.vmids) == 1 else ""

    def validate(self) -> None:
        if not self.vmids and not self.every:
            raise BadParameter({"vmid": "name guests, or all=1, or a pool"})
        wrong = [vmid for vmid in (*self.vmids, *self.exclude) if not MIN_VMID <= vmid <= MAX_VMID]
        if wrong:
            raise BadParameter({"vmid": f"{wrong[0]} is not from {MIN_VMID} to {MAX_VMID}"})
        if self.limit < 0:
            raise BadParameter({"bwlimit": "must be 0 or more KiB/s"})

    async def precheck(self, services: Backups) -> None:
        await services.life.assembly.volumes.dump(self.storage)

    async def execute(self, services: Backups, report: Report, undo: AsyncExitStack) -> None:
        failed = []
        guests = await self._guests(services.life)
        for vmid, guest in guests.items():
            try:
                if guest is None:
                    raise NotFound(f"Guest {vmid} does not exist", why="no guest has that number")
                report.log(f"INFO: Starting Backup of VM {vmid} ({guest.name})")
                await self._one(services, guest, report)
                report.log(f"INFO: Finished Backup of VM {vmid}")
            except RacimoError as error:
                report.log(f"ERROR: Backup of VM {vmid} failed - {error}")
                failed.append(vmid)
        if failed:
            raise OperationFailed("job errors")

    async def _one(self, services: Backups, guest: Guest, report: Report) -> None:
        wish = BackupWish(
            storage=self.storage, mode=self.mode, compress=self.compress, protected=self.protected, limit=self.limit,
            notes=notes_of(self.template, guest, self.cluster),
        )  # fmt: skip
        operation = BackUpGuest(vmid=guest.vmid, wish=wish, outer=report)
        await services.tasks.run(operation, services.life, services.user)
        if self.keep is not None:
            volumes = services.life.assembly.volumes
            left = await prune(volumes, self.storage, self.keep, report.log, guest.vmid)
            if left:
                report.warn(f"{len(left)} old backups of guest {guest.vmid} were not removed")

    async def _guests(self, life: Lifecycle) -> dict[int, Guest | None]:
        """Those to back up: in the order that was asked for, or by number; of ``every`` only this node's."""
        known = {guest.vmid: guest for guest in await life.layout.guests.records()}
        mine = sorted(vmid for vmid, guest in known.items() if guest.node == life.node)
        wanted: Iterable[int] = mine if self.every else dict.fromkeys(self.vmids)
        return {vmid: known.get(vmid) for vmid in wanted if vmid not in self.exclude}


def notes_of(template: str, guest: Guest, cluster: str) -> str:
    r"""The notes that ``template`` makes: its variables filled in, ``\n`` a new line, ``\\`` a backslash."""
    text = template.replace("\\\\", "\0").replace("\\n", "\n").replace("\0", "\\")
    variables = {"guestname": guest.name, "vmid": str(guest.vmid), "node": guest.node, "cluster": cluster}
    for name, value in variables.items():
        text = text.replace(f"{{{{{name}}}}}", value)
    return text
