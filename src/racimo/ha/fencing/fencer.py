"""Carries out the orders to cut nodes' power, several at once, and writes down what came of each."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from racimo.errors import StoreError
from racimo.ha.fencing.course import Course, Verdict
from racimo.ha.fencing.proofs import levels
from racimo.model.fence import FenceStage, ReturnStage
from racimo.store.base import Compare

if TYPE_CHECKING:
    from racimo.ha.clock import Clock
    from racimo.ha.fencing.agents import FenceAgents
    from racimo.ha.heartbeat import Holder
    from racimo.ha.view import View
    from racimo.model.fence import Fencing
    from racimo.store.collection import Held

log = structlog.get_logger()

RETRY_S = 0.2


class Fencer:
    """The hand of the manager on ``node``. An order is carried out once it is seen to stand in the store, never before.

    So an order whose commit was lost sight of is carried out too.
    """

    def __init__(self, node: str, view: View, holder: Holder, agents: FenceAgents, clock: Clock) -> None:
        self._node, self._view, self._holder, self.agents, self._clock = node, view, holder, agents, clock
        self._wake = asyncio.Event()
        self._running: dict[str, tuple[int, asyncio.Task[None]]] = {}
        view.listen_to_news(self._wake.set)

    async def run(self) -> None:
        """Until cancelled. A newer order about a node ends the one before: that proves nothing any more."""
        async with asyncio.TaskGroup() as group:
            while True:
                await self._wake.wait()
                self._wake.clear()
                for name, held in self._view.fencings.items():
                    self._begin(group, name, held)

    def _begin(self, group: asyncio.TaskGroup, name: str, held: Held[Fencing]) -> None:
        fencing, before = held.record, self._running.get(name)
        if fencing.by == self._node and fencing.stage is FenceStage.RUNNING and self._due(fencing):
            work, what = self._carry_out, "fence"
        elif self._is_to_return(fencing):
            work, what = self._switch_on, "switch on"
        else:
            return
        if before is not None:
            if before[0] == held.revision:
                return
            before[1].cancel()
        task = group.create_task(work(fencing, held.revision), name=f"{what} {name}")
        self._running[name] = held.revision, task

    async def _carry_out(self, fencing: Fencing, revision: int) -> None:
        devices = {name: held.record for name, held in self._view.fence_devices.items()}
        checks = {name: held.record for name, held in self._view.fence_checks.items()}
        began = self._clock.monotonic()
        course = Course(self.agents, self._clock, lambda: self._due(fencing))
        verdict = await course.cut(levels(fencing.node, devices, checks))
        seconds = round(self._clock.monotonic() - began, 2)
        said = [f"{each.device} {each.action}: {each.said} ({each.seconds:g} s)" for each in verdict.answers]
        log.info("a node's power was to be cut", node=fencing.node, confirmed=verdict.confirmed, why=verdict.why,
                 seconds=seconds, said=said)  # fmt: skip
        await self._report(fencing, revision, verdict)

    def _due(self, fencing: Fencing) -> bool:
        """Whether nothing newer was seen of the node, and the order may still be acted on here."""
        beat, term = self._view.heartbeats.get(fencing.node), self._view.manager.get("term")
        return (
            self._holder.holds()
            and beat is not None
            and beat.revision == fencing.revision
            and term is not None
            and term.record.term == fencing.term
        )

    def _is_to_return(self, fencing: Fencing) -> bool:
        """Whether this node has the order to switch it on, and it shows no life yet."""
        back, term = fencing.back, self._view.manager.get("term")
        if back is None or back.stage is not ReturnStage.RUNNING or back.by != self._node:
            return False
        alive = fencing.node in self._view.heartbeats
        return self._holder.holds() and not alive and term is not None and term.record.term == back.term

    async def _switch_on(self, fencing: Fencing, revision: int) -> None:
        """By all the devices that were told to cut it, whatever they said to that."""
        cut = {answer.device for answer in fencing.answers if answer.action == "off"}
        devices = [held.record for name, held in sorted(self._view.fence_devices.items()) if name in cut]
        if cut and len(devices) == len(cut) and fencing.back is not None:
            verdict = await Course(self.agents, self._clock).restore(devices)
        else:
            verdict = Verdict(False, "a device that cut it is defined no more")
        log.info("a node was to be switched on again", node=fencing.node, on=verdict.confirmed, why=verdict.why)
        if fencing.back is not None:
            stage = ReturnStage.DONE if verdict.confirmed else ReturnStage.FAILED
            back = replace(fencing.back, stage=stage, why=verdict.why)
            await self._write(replace(fencing, back=back), revision, back.term, verdict.why)

    async def _report(self, fencing: Fencing, revision: int, verdict: Verdict) -> None:
        """Write down whether it is off."""
        stage = FenceStage.CONFIRMED if verdict.confirmed else FenceStage.FAILED
        result = replace(fencing, stage=stage, why=verdict.why, answers=verdict.answers)
        await self._write(result, revision, fencing.term, verdict.why)

    async def _write(self, result: Fencing, revision: int, number: int, why: str) -> None:
        """Write a result down, if the order and the term ``number`` that it was given in still stand."""
        fencings, manager = self._view.layout.fencings, self._view.layout.manager
        while self._holder.holds():
            term = self._view.manager.get("term")
            if term is None or term.record.term != number:
                break
            compares = [Compare(manager.key("term"), term.revision), Compare(fencings.key(result.node), revision)]
            try:
                if await self._view.store.txn(compares, [fencings.put(result.node, result)]) is not None:
                    return
                break
            except StoreError as error:
                log.info("the result of a fencing could not be written yet", node=result.node, why=str(error))
                await self._clock.sleep(RETRY_S)
        log.info("the result of a fencing was overtaken", node=result.node, result=why)
