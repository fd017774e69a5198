"""The key that secrets in the store are sealed with: made once, handed from node to node, changed when asked.

Desired state: the datacenter's settings name the key in force by its id, and each node holds it in a file. A node whose
file lacks it (it has just joined, the key was changed, the file was lost) asks the others over mutual TLS. A witness
gets none: it opens nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from typing import TYPE_CHECKING, Any, Protocol

import structlog

from racimo.datacenter.atomic_file import PRIVATE, replace_file
from racimo.datacenter.standalone import SETTINGS
from racimo.errors import Conflict, RacimoError, WatchLost
from racimo.store.collection import Collection
from racimo.store.sealing import Keyring, dump_ring, has_secrets, is_sealed_with, new_sealing_key

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from racimo.model.datacenter import Datacenter
    from racimo.store.collection import Held
    from racimo.store.layout import Layout
    from racimo.store.mirror import Mirror
    from racimo.store.sealing import Sealing

log = structlog.get_logger()

TURN_S, SOON_S = 60.0, 1.0
ASK_S = 5.0
HAND_OVER_S = 20.0
"""How long a change of the key waits for the nodes in reach to have the new one."""
SETTLED = "the sealing key is here, and everything is sealed with it"


class KeyHolders(Protocol):
    """The other nodes that hold keys, witnesses left out."""

    async def rings(self, timeout: float) -> Mapping[str, Keyring | None]:
        """Each one's keys; None from one that does not answer within ``timeout`` seconds. Raises nothing."""


@dataclasses.dataclass(frozen=True, slots=True)
class Resealed:
    """What came of sealing all anew: how many records were, and the secrets that nobody can open any more."""

    records: int
    lost: tuple[str, ...]


class SealingKeeper:
    """One node's. ``may_act``: whether this node acts for all now (it stands alone, or is the HA manager's)."""

    def __init__(self, layout: Layout, sealing: Sealing, others: KeyHolders, may_act: Callable[[], bool]) -> None:
        self._layout, self.sealing, self._others, self._may_act = layout, sealing, others, may_act
        self._news = asyncio.Event()
        self._lost: tuple[str, ...] = ()

    async def run(self, mirror: Mirror) -> None:
        """Turn until cancelled: when the settings change, and every minute."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow(mirror), name="settings")
            group.create_task(self._turns(), name="sealing key")

    async def _turns(self) -> None:
        said = ""
        while True:
            self._news.clear()
            try:
                sentence = await self.turn()
            except (RacimoError, OSError) as error:
                sentence = f"the sealing key cannot be looked after now: {error}"
            if sentence != said:
                log.info("Sealing", turn=sentence)
                said = sentence
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TURN_S if sentence == SETTLED else SOON_S):
                    await self._news.wait()

    async def _follow(self, mirror: Mirror) -> None:
        while True:
            try:
                async with contextlib.aclosing(mirror.changes()) as changes:
                    self._news.set()
                    async for change in changes:
                        if any(event.key.startswith(self._layout.datacenter.prefix) for event in change.events):
                            self._news.set()
                    return
            except WatchLost as error:
                log.info("the settings are looked up anew", why=str(error))

    async def turn(self) -> str:
        """Look once; says in one sentence what was done or is waited for."""
        held = await self._layout.datacenter.hold(SETTINGS)
        wanted, ring = held.record.sealing_key, self._own(held.record)
        if not wanted:
            return (
                await self._make(held, ring) if self._may_act() else "waiting for the manager to make the sealing key"
            )
        if ring.current != wanted:
            if ring.find(wanted) is None:
                found = [one for one in (await self._others.rings(ASK_S)).values() if one and one.find(wanted)]
                if not found:
                    return f"no node in reach has the sealing key {wanted}: secrets cannot be opened here"
                ring = ring.with_keys(found[0].keys, wanted)
            self._write(ring.with_keys((), wanted))
            return f"holds the sealing key {wanted} now"
        if self._may_act() and await self._unsealed(wanted):
            if waiting := await self._without(wanted):
                return f"waiting until {', '.join(waiting)} have the sealing key {wanted}"
            done = await self.reseal()
            self._tell_lost(done.lost)
            if done.records:
                return f"sealed {done.records} records with the key {wanted}"
        return SETTLED

    async def rotate(self, *, force: bool = False) -> Resealed:
        """Make a new key, hand it over, seal everything with it. ``force``: though the present one is not here.

        Raises ``Conflict`` without the present key, or when somebody else changes it now.
        """
        held = await self._layout.datacenter.hold(SETTINGS)
        ring = self._own(held.record)
        if held.record.sealing_key and ring.find(held.record.sealing_key) is None and not force:
            raise Conflict(
                "The sealing key was not changed", why=f"this node lacks the present one, {held.record.sealing_key}",
                todo="Ask a node that has it; with --force, what it sealed has to be set anew",
            )  # fmt: skip
        await self._make(held, ring)
        wanted = self.sealing.reload().current
        await self._handed_over(wanted)
        done = await self.reseal()
        log.info("the sealing key was changed", key=wanted, records=done.records, lost=list(done.lost))
        return done

    async def reseal(self) -> Resealed:
        """Seal every secret in the store with the key in force, those that were written before there was one too."""
        records, lost = 0, []
        for collection in self._collections():
            for name, held in (await collection.all()).items():
                record, unopened = self.sealing.renewed(held.key, held.record)
                lost += [f"{held.key} {secret}" for secret in unopened]
                if record != held.record and await self._layout.store.txn(
                    [held.compare], [collection.put(name, record, held)]
                ):
                    records += 1
        return Resealed(records, tuple(lost))

    async def _make(self, held: Held[Datacenter], ring: Keyring) -> str:
        """A key that was made but is not in force yet is taken again: nobody sealed anything with it."""
        spare = [key for key in ring.keys if key.id != held.record.sealing_key] if not ring.current else []
        key = spare[0] if spare else new_sealing_key()
        self._write(ring.with_keys((key,), ring.current))  # on the disk before anybody can ask for it
        named = dataclasses.replace(held.record, sealing_key=key.id)
        if await self._layout.store.txn([held.compare], [self._layout.datacenter.put(SETTINGS, named, held)]) is None:
            raise Conflict(
                "The sealing key was not put in force", why="the settings were just changed", todo="Try again"
            )
        self._write(ring.with_keys((key,), key.id))
        return f"made the sealing key {key.id}"

    def _own(self, settings: Datacenter) -> Keyring:
        """This node's keys; those of another datacenter, which it left, are none."""
        ring = self.sealing.reload()
        return ring if ring.datacenter == settings.id else Keyring(datacenter=settings.id)

    def _write(self, ring: Keyring) -> None:
        replace_file(self.sealing.file, dump_ring(ring), PRIVATE)
        self.sealing.reload()

    async def _handed_over(self, wanted: str) -> None:
        """Until the nodes in reach have the key; they ask for it by themselves as soon as they see its id."""
        waiting: list[str] = []
        try:
            async with asyncio.timeout(HAND_OVER_S):
                while waiting := await self._without(wanted):
                    log.debug("waiting until nodes have the sealing key", nodes=waiting)
                    await asyncio.sleep(SOON_S / 2)
        except TimeoutError:
            log.warning("some nodes do not have the new sealing key yet", nodes=waiting, waited_s=HAND_OVER_S)

    async def _without(self, wanted: str) -> list[str]:
        """The nodes in reach that lack the key."""
        rings = await self._others.rings(ASK_S)
        return sorted(name for name, ring in rings.items() if ring is not None and ring.find(wanted) is None)

    async def _unsealed(self, wanted: str) -> bool:
        """Whether the store holds a secret that is not sealed with the key in force."""
        for collection in self._collections():
            for held in (await collection.all()).values():
                if not is_sealed_with(wanted, held.record):
                    return True
        return False

    def _collections(self) -> list[Collection[Any]]:
        """Those whose records have secrets."""
        every = vars(self._layout).values()
        return [each for each in every if isinstance(each, Collection) and has_secrets(each.kind)]

    def _tell_lost(self, lost: tuple[str, ...]) -> None:
        if lost and lost != self._lost:
            log.warning("secrets cannot be opened with any key here", secrets=list(lost), todo="Set them anew")
        self._lost = lost
