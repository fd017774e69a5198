"""The store of a cluster: etcd, through the JSON gateway of its members."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from racimo.errors import StoreUnavailable
from racimo.store.base import Change, Listing, Stored, check_transaction, prefix_end
from racimo.store.etcd_gateway import Failure, Gateway, Json, revision_of
from racimo.store.etcd_session import TlsFiles
from racimo.store.etcd_txn import REQUESTS, Writer, condition, decode, encode, look
from racimo.store.etcd_watch import WatchStream

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from racimo.store.base import Compare, Put

__all__ = ["EtcdStore", "TlsFiles"]

FIRST_PAGE, LARGEST_PAGE = 64, 1000
"""Records fetched at once by a list."""

PAGE_BYTES = 1024 * 1024
"""About how much a list fetches at once: its later pages are made so large, judging by the first."""

GOODBYE = 1.0
"""Seconds that closing may spend on deleting this client's request keys."""


class EtcdStore:
    """See ``racimo.store.base.Store``. ``endpoints`` are client URLs, the one to ask first in front.

    ``request_timeout`` in seconds bounds each read and each write; one member may take 1.5 s of it. A list of many
    records is fetched in pages, each bounded so. Reads are linearizable. Values may have about 1 MiB.
    """

    def __init__(self, endpoints: Sequence[str], tls: TlsFiles | None, *, request_timeout: float = 5.0) -> None:
        self._gateway = Gateway(endpoints, tls, request_timeout=request_timeout)
        self._writer = Writer(self._gateway)
        self._streams: list[WatchStream] = []
        self._closed = False

    async def get(self, key: str) -> Stored | None:
        self._check()
        answer = await self._ask("/v3/kv/range", {"key": encode(key)})
        return next((_stored(entry) for entry in answer.get("kvs", ())), None)

    async def snapshot(self, keys: Sequence[str]) -> tuple[Stored | None, ...]:
        self._check()
        if not keys:
            return ()
        # A transaction that only reads: linearizable, and one revision for all of it.
        answer = await self._ask("/v3/kv/txn", {"success": [look(key) for key in keys]})
        found = [response["response_range"].get("kvs", ()) for response in answer["responses"]]
        return tuple(_stored(entries[0]) if entries else None for entries in found)

    async def list(self, prefix: str) -> Listing:
        self._check()
        while True:
            try:
                return await self._list(prefix)
            except Failure as failure:
                if "compacted" not in failure.reason:
                    raise
                # Compacted between two pages: the pages begin anew at a newer revision.

    async def txn(
        self, compares: Sequence[Compare] = (), puts: Sequence[Put] = (), deletes: Sequence[str] = ()
    ) -> int | None:
        self._check()
        check_transaction(compares, puts, deletes)
        if puts or deletes:
            return await self._writer.commit(compares, puts, deletes)
        if not compares:
            return await self.revision()
        answer = await self._ask("/v3/kv/txn", {"compare": [condition(compare) for compare in compares]})
        return revision_of(answer) if answer.get("succeeded") else None

    async def watch(self, prefix: str, from_revision: int, *, progress: bool = False) -> AsyncGenerator[Change, None]:
        self._check()
        self._streams = [stream for stream in self._streams if not stream.over]
        stream = next((each for each in self._streams if each.reaches_back_to(from_revision)), None)
        if stream is None:
            stream = WatchStream(self._gateway, from_revision)
            self._streams.append(stream)
        subscription = stream.subscribe(prefix, from_revision, progress)
        try:
            async with aclosing(subscription.changes()) as changes:
                async for change in changes:
                    yield change
        finally:
            await stream.unsubscribe(subscription)

    def set_endpoints(self, endpoints: Sequence[str]) -> None:
        """The client URLs to ask from now on, when the members have changed."""
        self._gateway.set_endpoints(endpoints)

    async def revision(self) -> int:
        self._check()
        return await self._gateway.revision()

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        for stream in self._streams:
            await stream.close()
        await self._writer.close(GOODBYE)
        await self._gateway.close()

    async def _list(self, prefix: str) -> Listing:
        end = prefix_end(prefix.encode())
        start, revision, page = prefix.encode() or b"\0", 0, FIRST_PAGE
        records: list[Stored] = []
        while True:
            body: Json = {"key": encode(start), "range_end": encode(end or b"\0"), "limit": str(page)}
            if revision:
                body["revision"] = str(revision)
            try:
                answer = await self._ask("/v3/kv/range", body)
            except Failure as failure:
                if "larger than max" in failure.reason and page > 1:
                    page //= 4
                    continue
                raise
            revision = revision or revision_of(answer)
            entries = answer.get("kvs", [])
            records += [_stored(entry) for entry in entries]
            if not answer.get("more"):
                break
            start = decode(entries[-1]["key"]) + b"\0"
            size = sum(len(record.value) + len(record.key) for record in records) / len(records)
            page = max(1, min(LARGEST_PAGE, int(PAGE_BYTES / size)))
        return Listing(tuple(each for each in records if not each.key.startswith(REQUESTS)), revision)

    async def _ask(self, path: str, body: Json) -> Json:
        return await self._gateway.ask(path, body)

    def _check(self) -> None:
        if self._closed:
            raise StoreUnavailable("The store is closed")


def _stored(entry: Json) -> Stored:
    return Stored(decode(entry["key"]).decode(), decode(entry.get("value", "")), int(entry["mod_revision"]))
