"""Writes to etcd that are applied at most once, and whose outcome is found out when the answer is lost.

Each write goes with a *slot*: a key of this client alone. The transaction compares the slot's revision with the one
that this client last saw, and writes the request's id into it. So a transaction commits if and only if it moves its
slot. When an answer is lost, a second transaction, the *fence*, makes the same comparison through any member and moves
the slot itself. If the fence commits, the lost transaction never can, however late it arrives, since revisions never
come back: it may be sent again. If the fence does not commit, the slot tells by its value that the lost transaction
did, and by its revision when. The fence carries an id too and may itself be sent any number of times.
"""

from __future__ import annotations

import asyncio
import base64
import uuid
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from racimo.errors import StoreError, StoreUnavailable, StoreUnknown
from racimo.store.base import ABSENT, Compare, Put, prefix_end
from racimo.store.etcd_gateway import MEMBER_TIMEOUT, PAUSE, Done, Failure, Gateway, Json, revision_of, unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

REQUESTS = "/racimo-requests/"
"""The slots' prefix, outside of every prefix of records: no list or watch of records ever meets a slot."""

SLOTS = 32
"""Writes that one client has under way at once; more wait for one of these."""

STALE_AFTER = 100_000
"""Revisions after which a slot that nobody moved is taken for left behind by a client that died, and deleted."""

SWEEP = 20
"""Slots left behind that are deleted at once."""

FENCE_TIME = 1.0
"""Seconds that are kept back for a fence: a write is not sent again with less time left."""

_log = structlog.get_logger()


def encode(text: str | bytes) -> str:
    """A key or value as the gateway takes it: base64."""
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode("ascii")


def decode(text: str) -> bytes:
    """The bytes of a key or value in an answer of the gateway."""
    return base64.b64decode(text)


def condition(compare: Compare) -> Json:
    """One comparison of a transaction. A key that does not exist has revision 0 for etcd too."""
    return {
        "key": encode(compare.key),
        "target": "MOD",
        "result": "EQUAL",
        "mod_revision": str(compare.revision),
    }


def put(key: str, value: bytes) -> Json:
    """One write of a transaction."""
    return {"request_put": {"key": encode(key), "value": encode(value)}}


def delete(key: str) -> Json:
    """One deletion of a transaction."""
    return {"request_delete_range": {"key": encode(key)}}


def look(key: str) -> Json:
    """One read of a transaction."""
    return {"request_range": {"key": encode(key)}}


@dataclass(slots=True)
class Slot:
    """A key of this client with the revision that it was last seen at; ``sure`` is false when that is in doubt."""

    key: str
    revision: int
    sure: bool = True


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What became of one request: ``revision`` if committed; else whether a compare failed or it may be sent again."""

    revision: int | None = None
    again: bool = False


class Writer:
    """The transactions of one client. ``StoreUnavailable``: not written. ``StoreUnknown``: it could not be told."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._client = uuid.uuid4().hex
        self._made = 0
        self._free: list[Slot] = []
        self._left: list[str] = []
        self._permits = asyncio.Semaphore(SLOTS)

    async def commit(self, compares: Sequence[Compare], puts: Sequence[Put], deletes: Sequence[str]) -> int | None:
        """See ``Store.txn``; there is something to write. Takes at most the gateway's ``patience``."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._gateway.patience
        failures: dict[str, str] = {}
        while True:
            async with self._slot(deadline) as slot:
                swept = self._left[:SWEEP]
                request = _Request(self._gateway, slot, compares, puts, [*deletes, *swept], deadline)
                outcome = await request.run(failures)
            if outcome.revision is not None:
                self._left = [key for key in self._left if key not in swept]
                return outcome.revision
            if not outcome.again:
                return None
            if loop.time() + FENCE_TIME > deadline:
                self._gateway.gave_up()
                raise unavailable(failures)
            await asyncio.sleep(PAUSE)

    async def close(self, within: float) -> None:
        """Delete this client's slots, if that can be done in ``within`` seconds; later clients sweep them else."""
        if not self._made:
            return
        prefix = f"{REQUESTS}{self._client}/".encode()
        body = {"key": encode(prefix), "range_end": encode(prefix_end(prefix) or b"\0")}
        try:
            await self._gateway.ask("/v3/kv/deleterange", body, within=within)
        except StoreError as error:
            _log.info("request slots left behind", why=str(error))

    @asynccontextmanager
    async def _slot(self, deadline: float) -> AsyncIterator[Slot]:
        """A slot for one request; given back only when its revision is known for sure."""
        left = deadline - asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(left):
                await self._permits.acquire()
        except TimeoutError as error:
            why = f"{SLOTS} earlier writes were still waiting for the store after {left:.1f} s"
            raise StoreUnavailable("The store did not take the write", why=why, todo="Try again") from error
        slot: Slot | None = None
        try:
            slot = self._free.pop() if self._free else await self._new_slot(deadline)
            yield slot
        except BaseException as error:
            if slot is not None and (isinstance(error, StoreUnknown) or not isinstance(error, StoreError)):
                slot.sure = False
            raise
        finally:
            self._permits.release()
            if slot is not None:
                if slot.sure:
                    self._free.append(slot)
                else:
                    self._left.append(slot.key)

    async def _new_slot(self, deadline: float) -> Slot:
        self._made += 1
        key = f"{REQUESTS}{self._client}/{self._made}"
        body = {"compare": [condition(Compare(key, ABSENT))], "success": [put(key, b"new")], "failure": [look(key)]}
        try:
            left = deadline - asyncio.get_running_loop().time()
            answer = await self._gateway.ask("/v3/kv/txn", body, within=left)
        except Failure as failure:
            raise (_full(failure) if failure.done is Done.FULL else _refused(failure)) from failure
        revision = revision_of(answer) if answer.get("succeeded") else _slot_state(answer)[0]
        if self._made == 1:
            await self._find_left_behind(revision)
        return Slot(key, revision)

    async def _find_left_behind(self, revision: int) -> None:
        """Mark slots that nobody moved for long for deletion. A live owner of one notices, and takes a new slot."""
        if revision <= STALE_AFTER:
            return
        prefix = REQUESTS.encode()
        body: Json = {
            "key": encode(prefix),
            "range_end": encode(prefix_end(prefix) or b"\0"),
            "max_mod_revision": str(revision - STALE_AFTER),
            "keys_only": True,
            "limit": str(SWEEP),
        }
        answer = await self._gateway.ask("/v3/kv/range", body)
        self._left += [decode(entry["key"]).decode() for entry in answer.get("kvs", [])]


class _Request:
    """One transaction under one slot, sent at most once, and fenced when its answer is lost."""

    def __init__(
        self,
        gateway: Gateway,
        slot: Slot,
        compares: Sequence[Compare],
        puts: Sequence[Put],
        deletes: Sequence[str],
        deadline: float,
    ) -> None:
        self.gateway, self.slot, self.deadline = gateway, slot, deadline
        self.compares, self.puts, self.deletes = compares, puts, list(dict.fromkeys(deletes))
        self.id = uuid.uuid4().hex

    async def run(self, failures: dict[str, str]) -> _Outcome:
        body: Json = {
            "compare": [condition(compare) for compare in (Compare(self.slot.key, self.slot.revision), *self.compares)],
            "success": [
                put(self.slot.key, self.id.encode()),
                *(put(each.key, each.value) for each in self.puts),
                *(delete(key) for key in self.deletes),
            ],
            "failure": [look(self.slot.key)],
        }
        for endpoint in self.gateway.endpoints:
            left = self.deadline - asyncio.get_running_loop().time() - FENCE_TIME
            try:
                answer = await self.gateway.attempt(endpoint, "/v3/kv/txn", body, max(0.3, min(MEMBER_TIMEOUT, left)))
            except asyncio.CancelledError:
                self.gateway.avoid(endpoint)  # whoever waited has lost patience with it: the next request asks another
                raise
            except Failure as failure:
                failures[endpoint] = failure.reason
                if failure.done is Done.REFUSED:
                    raise _refused(failure) from failure
                self.gateway.avoid(endpoint)
                if failure.done is Done.FULL:
                    return await self._look_when_full(failure)
                if failure.done is Done.UNKNOWN:
                    return await self._resolve(failure)
            else:
                return self._answered(answer)
        return _Outcome(again=True)

    def _answered(self, answer: Json) -> _Outcome:
        if answer.get("succeeded"):
            self.slot.revision = revision_of(answer)
            return _Outcome(revision=self.slot.revision)
        if _slot_state(answer)[0] == self.slot.revision:
            return _Outcome()
        self.slot.sure = False  # swept by another client: take a new one
        return _Outcome(again=True)

    async def _resolve(self, failure: Failure) -> _Outcome:
        """Find out what became of a request whose answer was lost."""
        fence = f"fence-{self.id}".encode()
        body: Json = {
            "compare": [condition(Compare(self.slot.key, self.slot.revision))],
            "success": [put(self.slot.key, fence)],
            "failure": [look(self.slot.key)],
        }
        left = max(FENCE_TIME, self.deadline - asyncio.get_running_loop().time())
        try:
            answer = await self.gateway.ask("/v3/kv/txn", body, within=left)
        except StoreError as error:
            raise self._unknown(failure, error) from error
        if answer.get("succeeded"):
            self.slot.revision = revision_of(answer)
            _log.info("a lost write was fenced off", member=failure.endpoint, reason=failure.reason)
            return _Outcome(again=True)
        revision, value = _slot_state(answer)
        if value == self.id.encode():
            _log.info("a lost write was found committed", member=failure.endpoint, reason=failure.reason)
            self.slot.revision = revision
            return _Outcome(revision=revision)
        if value == fence:
            self.slot.revision = revision
            return _Outcome(again=True)
        raise self._unknown(failure, None)

    async def _look_when_full(self, failure: Failure) -> _Outcome:
        """etcd may apply a transaction and still answer that the space is used up: what the slot says counts."""
        try:
            answer = await self.gateway.ask("/v3/kv/range", {"key": encode(self.slot.key)})
        except StoreError as error:
            raise self._unknown(failure, error) from error
        entry = answer.get("kvs", [{}])[0]
        if decode(entry.get("value", "")) == self.id.encode():
            self.slot.revision = int(entry["mod_revision"])
            return _Outcome(revision=self.slot.revision)
        raise _full(failure)

    def _unknown(self, first: Failure, then: StoreError | None) -> StoreUnknown:
        why = f"{first.endpoint}: {first.reason}"
        if then is not None:
            why = f"{why}; then, finding out: {then.why or then}"
        return StoreUnknown(
            "It is not known whether the store has carried out a write",
            why=why,
            todo="Look at the record before trying again",
        )


def _slot_state(answer: Json) -> tuple[int, bytes]:
    """Revision and value of the slot, from a transaction's failure branch. (0, b"") when it does not exist."""
    entries = answer["responses"][0]["response_range"].get("kvs", [])
    if not entries:
        return ABSENT, b""
    return int(entries[0]["mod_revision"]), decode(entries[0].get("value", ""))


def _refused(failure: Failure) -> StoreError:
    return StoreError(
        "The store refused a write", why=f"{failure.endpoint}: {failure.reason}", todo="Nothing was written"
    )


def _full(failure: Failure) -> StoreUnavailable:
    return StoreUnavailable(
        "The store is full and takes no more writes",
        why=f"{failure.endpoint}: {failure.reason}",
        todo="Compact and defragment the members, then disarm the alarm (docs/architecture/store.md)",
    )
