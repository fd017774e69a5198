"""Operations that need the daemon itself: becoming a witness, recovering the store from one survivor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

from racimo.datacenter.host import Host
from racimo.datacenter.join_text import read_text
from racimo.datacenter.recover import RecoverRequest, recover, rejoin
from racimo.datacenter.service import connect_by_https
from racimo.datacenter.witness import become_witness, stop_witnessing
from racimo.node.addresses import default_address
from racimo.task.operation import Operation

if TYPE_CHECKING:
    from contextlib import AsyncExitStack
    from pathlib import Path

    from racimo.task.operation import Report


class Restartable(Protocol):
    """The daemon, as far as these operations need it."""

    host: Host

    async def suspend(self) -> None:
        """Let go of the store."""

    async def resume(self) -> None:
        """Take it up again."""


@dataclass(frozen=True, slots=True)
class BecomeWitness(Operation[Host]):
    """Become the witness of a cluster; without a text, stop being one."""

    kind: ClassVar[str] = "witness"
    name: str
    text: str
    address: str

    @property
    def subject(self) -> str:
        return self.name

    def validate(self) -> None:
        if self.text:
            read_text(self.text)

    async def execute(self, services: Host, report: Report, undo: AsyncExitStack) -> None:
        if not self.text:
            await stop_witnessing(services)
            report.log("this machine is no witness any more")
            return
        address = self.address or await default_address()
        await become_witness(services, self.text, self.name, address, connect_by_https, report)


@dataclass(frozen=True, slots=True)
class RecoverStore(Operation[Restartable]):
    """Go on with this node as the only voter; with ``member``, follow the node at that address that did so."""

    kind: ClassVar[str] = "recover"
    node: str
    backup: Path | None
    member: str
    confirmed: bool

    @property
    def subject(self) -> str:
        return self.node

    async def execute(self, services: Restartable, report: Report, undo: AsyncExitStack) -> None:
        await services.suspend()
        undo.push_async_callback(services.resume)
        if self.member:
            await rejoin(services.host, self.member, report)
        else:
            await recover(services.host, RecoverRequest(confirmed=self.confirmed, backup=self.backup), report)
        undo.pop_all()
        await services.resume()
