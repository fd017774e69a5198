"""The HA agent of a node: marks HA guests for the guard, carries the manager's commands out and reports on them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

import structlog

from racimo.errors import RacimoError, StoreError, Unreachable
from racimo.ha.commit import STATE
from racimo.ha.states import COMMANDED, answered
from racimo.ha.wake import Wake
from racimo.model.ha import Arming, ArmPhase, Outcome, ServiceState

if TYPE_CHECKING:
    from racimo.ha.clock import Clock
    from racimo.ha.heartbeat import Holder
    from racimo.ha.node_client import NodeOperations
    from racimo.ha.view import View
    from racimo.model.ha import Service

log = structlog.get_logger()

MAX_WORKERS = 4
LOOK_S = 1.0
"""How often it looks when nothing happens: a lease may be back, a worker free."""
LIMIT_S = {"start": 120.0, "stop": 300.0, "migrate": 3600.0}
"""How long one command may take, trying again while the node's daemon does not answer included."""
DAEMON_AWAY_S = 60.0
"""How long a command is tried again while the node's daemon does not answer."""
BACKOFF_S = (0.1, 0.2, 0.5, 1.0, 2.0)


class Marks(Protocol):
    """The guests that this node's guard kills when there is no lease."""

    def marked(self) -> set[int]:
        """Their vmids."""

    def mark(self, vmid: int) -> None:
        """Add one."""

    def unmark(self, vmid: int) -> None:
        """Leave one out."""


class Agent:
    """Works for one node. ``workers`` commands at once, one per guest."""

    def __init__(
        self,
        node: str,
        view: View,
        holder: Holder,
        marks: Marks,
        operations: NodeOperations,
        clock: Clock,
        workers: int = MAX_WORKERS,
    ) -> None:
        self.node, self.view, self.holder, self.marks = node, view, holder, marks
        self.operations, self.clock, self.workers = operations, clock, workers
        self._wake = Wake()
        self._busy: set[str] = set()
        self._epochs: dict[str, int] = {}
        self._known = -1
        self._wanted: set[int] = set()
        self._own: list[Service] = []
        view.listen_to_news(self._wake.ring)

    async def run(self) -> None:
        """Reconcile for ever. Cancelling it leaves commands that were sent to the node's daemon running there."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._wake.clear()
                if self.view.revision:
                    try:
                        await self._keep_marks()
                    except StoreError as error:
                        log.info("marks are settled later", why=str(error))
                    self._hand_out(group)
                await self._wake.wait(LOOK_S)

    @property
    def arming(self) -> Arming:
        """Whether HA acts, as the view has it."""
        held = self.view.arming.get(STATE)
        return held.record if held else Arming()

    async def _keep_marks(self) -> None:
        """Every node marks every HA guest: so the target of a move knows it before its process begins."""
        arming = self.arming
        if arming.phase is ArmPhase.DISARMED:
            await self._lift_marks(arming)
            return
        self._take_news()
        wanted, present, revision = self._wanted, self.marks.marked(), self.view.revision
        if wanted - present and arming.generation and not self.holder.holds():
            return  # what runs here would be killed at once; nothing is confirmed before there is a lease
        for vmid in wanted - present:
            self.marks.mark(vmid)
        self.holder.armed = arming.generation
        for service in self._own:
            if self._unconfirmed(service):
                await self._confirm(service)
        for vmid in present - wanted:
            if await self.view.layout.resources.find(f"vm:{vmid}") is None:
                self.marks.unmark(vmid)
        if not self.view.flawed:
            self.holder.marked = revision  # one that is a guest at this revision is left out by no later look

    def _take_news(self) -> None:
        """What the view says of guests to mark and of this node's services, worked out when there is news alone."""
        if self._known != self.view.news:
            self._known = self.view.news
            self._wanted = {int(sid[3:]) for sid in self.view.resources if sid.startswith("vm:")}
            self._own = [held.record for held in self.view.services.values() if held.record.node == self.node]

    async def _lift_marks(self, arming: Arming) -> None:
        """HA is disarmed: the guard kills nobody. Only by a fresh read, and unless it was armed again meanwhile."""
        present = self.marks.marked()
        if not present:
            return
        held = await self.view.layout.arming.find(STATE)
        stands = held is not None and (held.record.phase, held.record.generation) == (arming.phase, arming.generation)
        if not stands or self.arming.phase is not ArmPhase.DISARMED:
            return
        log.warning("HA is disarmed: the guard lets go of the guests", guests=len(present))
        for vmid in present:
            self.marks.unmark(vmid)

    def _unconfirmed(self, service: Service) -> bool:
        generation = self.arming.generation
        if service.sid not in self.view.resources or (service.guarded and service.armed == generation):
            return False
        outcome = self.view.outcomes.get(service.sid)
        said = (outcome.record.node, outcome.record.epoch, outcome.record.armed) if outcome else None
        return said != (self.node, service.epoch, generation)

    async def _confirm(self, service: Service) -> None:
        """Tell the manager that the guest's mark is there: only then proof B speaks of the guest too."""
        resource = self.view.resources[service.sid]
        outcomes = self.view.layout.outcomes
        held = await outcomes.find(service.sid)
        outcome = self._outcome(service, "mark", "", self.holder.armed)
        compares = [resource.compare, held.compare if held else outcomes.absent(service.sid)]
        await self.view.store.txn(compares, [outcomes.put(service.sid, outcome, held)])

    def _hand_out(self, group: asyncio.TaskGroup) -> None:
        self._take_news()
        for service in sorted((own for own in self._own if own.state in COMMANDED), key=lambda own: own.sid):
            if len(self._busy) >= self.workers:
                return
            command = self._command(service)
            if command and service.sid not in self._busy:
                self._busy.add(service.sid)
                group.create_task(self._work(service, command), name=f"{command} {service.sid}")

    def _command(self, service: Service) -> str:
        """What is to be done for the service now; empty if nothing is."""
        command = COMMANDED.get(service.state, "")
        guest = self.view.guests.get(service.sid.removeprefix("vm:"))
        if not command or service.node != self.node or guest is None:
            return ""
        if (guest.record.node, guest.record.epoch) != (self.node, service.epoch):
            return ""
        if service.epoch < self._epochs.get(service.sid, 0):
            log.warning("refused a command of an older epoch", sid=service.sid, epoch=service.epoch)
            return ""
        outcome = self.view.outcomes.get(service.sid)
        if answered(service, outcome.record if outcome else None) is not None:
            return ""
        if service.state is ServiceState.FREEZE and self.holder.mode == "active":
            return ""
        if self.arming.phase is ArmPhase.DISARMED:
            return ""
        if command != "stop" and not (self.holder.holds() and self.holder.armed == self.arming.generation):
            return ""
        return command

    async def _work(self, service: Service, command: str) -> None:
        """One command, to its end and its report."""
        self._epochs[service.sid], armed = service.epoch, self.holder.armed
        self.marks.mark(int(service.sid[3:]))
        log.info("command", sid=service.sid, command=command, epoch=service.epoch, attempt=service.attempt)
        try:
            error = await self._carry_out(service, command)
            if error is not None:
                await self._report(service, command, error, armed)
        finally:
            self._busy.discard(service.sid)
            self._wake.ring()

    async def _carry_out(self, service: Service, command: str) -> str | None:
        """Empty when it was done, why it failed, or None when it is no longer wanted."""
        began, tries = self.clock.monotonic(), 0
        while True:
            try:
                async with asyncio.timeout(LIMIT_S[command] + (LIMIT_S["stop"] if service.renew else 0.0)):
                    await self._call(service, command)
                return ""
            except Unreachable as error:
                if self.clock.monotonic() - began > DAEMON_AWAY_S:
                    return str(error)
            except TimeoutError:
                return f"{command} did not end within {LIMIT_S[command]:g} s"
            except RacimoError as error:
                if command == "migrate" and self.holder.gave_up:
                    return f"the time set for its node's shutdown is over ({error})"
                return str(error)
            await self.clock.sleep(BACKOFF_S[min(tries, len(BACKOFF_S) - 1)])
            tries += 1
            now = self.view.services.get(service.sid)
            if now is None or self._command(now.record) != command or now.record.attempt != service.attempt:
                return None

    async def _call(self, service: Service, command: str) -> None:
        vmid = int(service.sid[3:])
        if command == "start":
            if service.renew:
                await self.operations.stop(vmid, service.epoch)
            await self.operations.start(vmid, service.epoch)
        elif command == "stop":
            await self.operations.stop(vmid, service.epoch)
        else:
            holder = self.holder
            await self.operations.migrate(
                vmid, service.epoch, service.target, live=True, given_up=lambda: holder.gave_up
            )

    async def report_health(self, service: Service, command: str, error: str) -> None:
        """Tell the manager how the guest's application is; see ``Health``."""
        await self._report(service, command, error, self.holder.armed)

    async def _report(self, service: Service, command: str, error: str, armed: int) -> None:
        """Write the outcome, unless the command was superseded. When the store is away, the command is done again.

        ``armed`` is the generation in which the guest was marked for it.
        """
        layout, outcome = self.view.layout, self._outcome(service, command, error, armed)
        log.info("outcome", sid=service.sid, command=command, ok=outcome.ok, error=error)
        for _ in range(10):
            try:
                now, held = await layout.services.find(service.sid), await layout.outcomes.find(service.sid)
                if now is None or (now.record.attempt, now.record.epoch) != (service.attempt, service.epoch):
                    return
                compares = [now.compare, held.compare if held else layout.outcomes.absent(service.sid)]
                revision = await self.view.store.txn(compares, [layout.outcomes.put(service.sid, outcome, held)])
                if revision is not None:
                    await self._seen(revision)
                    return
            except StoreError as refused:
                log.info("an outcome was not written", sid=service.sid, why=str(refused))
                await self.clock.sleep(1.0)

    async def _seen(self, revision: int) -> None:
        """Wait, a second at most, until the view shows it: else the command is taken for open and done again."""
        for _ in range(50):
            if self.view.revision >= revision:
                return
            await self.clock.sleep(0.02)

    def _outcome(self, service: Service, command: str, error: str, armed: int) -> Outcome:
        return Outcome(
            sid=service.sid,
            node=self.node,
            epoch=service.epoch,
            command=command,
            ok=not error,
            error=error,
            attempt=service.attempt,
            armed=armed,
        )
