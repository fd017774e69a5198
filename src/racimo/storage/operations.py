"""What is done to a storage's content as a task: files taken in, fetched, removed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from racimo.storage.arrival import check_sum_given
from racimo.storage.fetch import opened, pieces
from racimo.storage.volumes import Volumes
from racimo.task.operation import Operation

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

    from racimo.storage.arrival import Arrival
    from racimo.storage.base import Content, VolumeId
    from racimo.storage.fetch import Remote
    from racimo.task.operation import Report


@dataclass(frozen=True, kw_only=True)
class TakeIn(Operation[Volumes]):
    """Give a file that was uploaded its name, once its sum is right. One of that name is replaced."""

    kind: ClassVar[str] = "imgcopy"
    arrival: Arrival
    algorithm: str = ""
    checksum: str = ""

    @property
    def subject(self) -> str:
        """The storage."""
        return self.arrival.volume.storage

    def validate(self) -> None:
        """The sum belongs to the algorithm."""
        check_sum_given(self.algorithm, self.checksum)

    async def execute(self, services: Volumes, report: Report, undo: AsyncExitStack) -> None:
        """What is not right leaves nothing."""
        undo.callback(self.arrival.discard)
        report.log(f"{self.arrival.size} bytes came for {self.arrival.volume}")
        if self.algorithm:
            await self.arrival.demand_sum(self.algorithm, self.checksum)
            report.log(f"OK, {self.algorithm} sum is right")
        await self.arrival.publish(replace=True)
        undo.pop_all()


@dataclass(frozen=True, kw_only=True)
class Download(Operation[Volumes]):
    """Fetch a file from a web server into a storage. One that is there is never overwritten."""

    kind: ClassVar[str] = "download"
    storage: str
    content: Content
    file: str
    remote: Remote
    algorithm: str = ""
    checksum: str = ""

    @property
    def subject(self) -> str:
        """The file."""
        return self.file

    def validate(self) -> None:
        """A web address, and a sum that belongs to the algorithm."""
        self.remote.validate()
        check_sum_given(self.algorithm, self.checksum)

    async def execute(self, services: Volumes, report: Report, undo: AsyncExitStack) -> None:
        """It has its name when it is whole and its sum is right."""
        async with opened(self.remote) as answer:
            size = answer.content_length or 0
            arrival = await services.driver(self.storage).arrive(self.content, self.file, size)
            undo.callback(arrival.discard)
            report.log(f"{size or 'an unknown number of'} bytes to come for {arrival.volume}")
            async for piece in pieces(answer):
                await arrival.write(piece)
                report.progress(arrival.size / size if size else 0.0, "download")
        if self.algorithm:
            await arrival.demand_sum(self.algorithm, self.checksum)
            report.log(f"OK, {self.algorithm} sum is right")
        await arrival.publish(replace=False)
        undo.pop_all()


@dataclass(frozen=True, kw_only=True)
class RemoveVolume(Operation[Volumes]):
    """Remove a volume for good."""

    kind: ClassVar[str] = "imgdel"
    volume: VolumeId

    @property
    def subject(self) -> str:
        """The volume's storage."""
        return self.volume.storage

    async def execute(self, services: Volumes, report: Report, undo: AsyncExitStack) -> None:
        """Refused by the driver while a QEMU has it open, or linked clones need it."""
        await services.delete(self.volume)
        report.log(f"removed {self.volume}")
