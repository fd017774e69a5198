"""Whether the applications of this node's HA guests are well: asked by the owner's agent, reported when it matters."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import structlog

from racimo.errors import RacimoError
from racimo.model.ha import ServiceState

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from racimo.ha.clock import Clock
    from racimo.ha.view import View
    from racimo.model.ha import Resource, Service

log = structlog.get_logger()

LOOK_S = 0.5
AT_ONCE = 16
"""So many guests are asked at once."""


class Application(Protocol):
    """Asks one guest's application how it is."""

    async def ask(self, vmid: int, probe: str, timeout: float) -> None:
        """Return when it answered within ``timeout`` seconds. Raises ``RacimoError`` with the reason when not."""


@dataclass(slots=True)
class Asked:
    """What was found out about one run of one guest: ``run`` is its epoch and the attempt that started it."""

    run: tuple[int, int]
    since: float
    due: float
    failures: int = 0
    answered: bool = False
    reported: bool | None = None


class Health:
    """Asks what is due. ``report(service, error)`` tells the manager; an empty error says that all is well."""

    def __init__(
        self,
        node: str,
        view: View,
        application: Application,
        clock: Clock,
        report: Callable[[Service, str, str], Awaitable[None]],
    ) -> None:
        self.node, self.view, self.application, self.clock, self.report = node, view, application, clock, report
        self._asked: dict[str, Asked] = {}
        self._busy: set[str] = set()

    async def run(self) -> None:
        """For ever."""
        async with asyncio.TaskGroup() as group:
            while True:
                for sid in self._due():
                    self._busy.add(sid)
                    group.create_task(self._ask(sid), name=f"probe {sid}")
                await self.clock.sleep(LOOK_S)

    def _due(self) -> list[str]:
        now = self.clock.monotonic()
        due: list[str] = []
        watched = {sid: held.record for sid, held in self.view.resources.items() if held.record.probe}
        for sid in set(self._asked) - set(watched):
            del self._asked[sid]
        for sid, resource in watched.items():
            service = self._started(sid)
            if service is None:
                self._asked.pop(sid, None)
                continue
            asked = self._asked.get(sid)
            if asked is None or asked.run != (service.epoch, service.attempt):
                self._asked[sid] = Asked((service.epoch, service.attempt), now, now + min(1.0, resource.probe_interval))
            elif now >= asked.due and sid not in self._busy and len(self._busy) + len(due) < AT_ONCE:
                due.append(sid)
        return due

    def _started(self, sid: str) -> Service | None:
        """The service, if it runs here as far as the manager knows."""
        held = self.view.services.get(sid)
        if held is None or held.record.node != self.node or held.record.state is not ServiceState.STARTED:
            return None
        return held.record

    async def _ask(self, sid: str) -> None:
        try:
            asked, service, held = self._asked.get(sid), self._started(sid), self.view.resources.get(sid)
            if asked is None or service is None or held is None:
                return
            resource, error = held.record, ""
            try:
                await self.application.ask(int(sid.removeprefix("vm:")), resource.probe, resource.probe_timeout)
            except RacimoError as failure:
                error = str(failure)
            await self._judge(asked, service, resource, error)
        finally:
            self._busy.discard(sid)

    async def _judge(self, asked: Asked, service: Service, resource: Resource, error: str) -> None:
        """Count, and report a change: the first answer after failures, and failures in a row."""
        now = self.clock.monotonic()
        asked.due = now + resource.probe_interval
        if not error:
            asked.answered, asked.failures = True, 0
            counted = service.restarts or service.relocations
            if asked.reported is False or (asked.reported is None and counted):
                asked.reported = True
                await self.report(service, "probe", "")
            return
        in_grace = not asked.answered and now - asked.since < resource.probe_grace
        asked.failures += not in_grace
        log.info("a guest's application does not answer", sid=service.sid, why=error, failures=asked.failures)
        if asked.failures >= resource.probe_failures and asked.reported is not False:
            asked.reported = False
            await self.report(service, "probe", f"{asked.failures} probes in a row failed: {error}")
