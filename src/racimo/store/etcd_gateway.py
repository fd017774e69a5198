"""Requests to the members of an etcd cluster, through its JSON gateway: who is asked, how long, what the answer means.

Two ways to ask. ``ask`` is for requests that may run twice without harm (reads, fences): slow members are overtaken by
others. ``attempt`` sends once, for writes; its ``Failure`` says whether the request may have been carried out.
"""

from __future__ import annotations

import asyncio
import enum
import io
import json
from typing import TYPE_CHECKING, Any

import aiohttp

from racimo.errors import StoreError, StoreUnavailable
from racimo.store.etcd_session import Session
from racimo.store.json_stream import JsonStream

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence

    from racimo.store.etcd_session import TlsFiles

Json = dict[str, Any]
"""A message of etcd's gateway: the edge. 64-bit numbers are strings in it, and fields with a zero value are absent."""

MEMBER_TIMEOUT = 1.5
"""Seconds that one member may take over one request."""

CONNECT_TIMEOUT = 1.0
"""Seconds to connect, TLS included. What failed before that was surely not sent."""

HEDGE_AFTER = 0.4
"""Seconds after which a repeatable request is sent to the next member too."""

OUTAGE_PATIENCE = 2.0
"""Seconds that a request may take while the last one, a moment ago, was answered by nobody."""

OUTAGE_FRESH = 10.0
"""Seconds for which an outage is held to go on, unless somebody answers."""

PAUSE = 0.1
"""Seconds between two rounds over members that all failed."""

GRACE = 0.2
"""Seconds that closing leaves to requests still under way."""

STREAM_CHUNK = 256 * 1024

LARGE_BODY = 256 * 1024


class Done(enum.Enum):
    """What is known of a request that got no good answer."""

    NOT = "not carried out; another member may carry it out"
    REFUSED = "not carried out, and no other member would"
    FULL = "the space is used up; carried out or not, it is no longer under way"
    UNKNOWN = "it may or may not have been carried out"


class Failure(StoreError):
    """One member gave no good answer. ``reason`` is what it said, or how it stayed silent."""

    def __init__(self, endpoint: str, reason: str, done: Done) -> None:
        super().__init__(f"{endpoint}: {reason}")
        self.endpoint, self.reason, self.done = endpoint, reason, done


REFUSING_CODES = frozenset({3, 5, 6, 7, 9, 11, 12, 16})
"""gRPC codes that every member would answer alike: invalid, not found, exists, denied, precondition, range, missing."""

NOT_DONE = ("rpc not supported for learner", "too many requests", "not capable", "server stopped")
"""etcd's words for a request that this member certainly did not carry out, though another may."""

REFUSING = ("too many operations", "request is too large", "message larger than max")

FULL = "database space exceeded"


def judge(code: int, message: str) -> Done:
    """What an error answer of etcd says about the request. In doubt: unknown."""
    if FULL in message:
        return Done.FULL
    if any(words in message for words in NOT_DONE):
        return Done.NOT
    if code in REFUSING_CODES or any(words in message for words in REFUSING):
        return Done.REFUSED
    return Done.UNKNOWN


def unavailable(failures: Mapping[str, str]) -> StoreUnavailable:
    """The error that names every member asked and what it said."""
    return StoreUnavailable(
        "No member of the store answered",
        why="; ".join(f"{endpoint}: {reason}" for endpoint, reason in failures.items()),
        todo="Check that more than half of the voters run and reach each other (racimo cluster status)",
    )


class Gateway:
    """The members at ``endpoints`` (client URLs). ``request_timeout`` in seconds bounds each whole request.

    It stays with the member that answered last.
    """

    def __init__(self, endpoints: Sequence[str], tls: TlsFiles | None, *, request_timeout: float = 5.0) -> None:
        if not endpoints:
            raise ValueError("No endpoint of the store is given")
        self.request_timeout = request_timeout
        self._endpoints = [endpoint.rstrip("/") for endpoint in endpoints]
        self._session = Session(tls)
        self._at = 0
        self._silent_since: float | None = None
        """When a request was last answered by nobody, if nobody has answered since."""
        self._overtaken: set[asyncio.Task[Json]] = set()
        """Requests that another member answered sooner. They end by themselves, within ``MEMBER_TIMEOUT``: so their
        connections are kept, and none is given up while half made."""

    @property
    def patience(self) -> float:
        """Seconds that the next request may take: fewer in an outage, for a command makes several requests."""
        silent, now = self._silent_since, asyncio.get_running_loop().time()
        out = silent is not None and now - silent < OUTAGE_FRESH
        return min(OUTAGE_PATIENCE, self.request_timeout) if out else self.request_timeout

    def gave_up(self) -> None:
        """Note that nobody answered a request."""
        self._silent_since = asyncio.get_running_loop().time()

    @property
    def endpoints(self) -> list[str]:
        """The members' client URLs, the one asked first in front."""
        return self._endpoints[self._at :] + self._endpoints[: self._at]

    def set_endpoints(self, endpoints: Sequence[str]) -> None:
        """Ask these members from now on: the membership has changed. Still first asks the one in front, if there."""
        if not endpoints:
            raise ValueError("No endpoint of the store is given")
        front = self.endpoints[0]
        self._endpoints, self._at = [endpoint.rstrip("/") for endpoint in endpoints], 0
        self.prefer(front)

    def prefer(self, endpoint: str) -> None:
        """Ask this member first from now on."""
        if endpoint in self._endpoints:
            self._at = self._endpoints.index(endpoint)

    def avoid(self, endpoint: str) -> None:
        """Ask the next member first from now on, if this one stood in front."""
        if self.endpoints[0] == endpoint:
            self._at = (self._at + 1) % len(self._endpoints)

    async def attempt(self, endpoint: str, path: str, body: Json, timeout: float = MEMBER_TIMEOUT) -> Json:
        """Send once to one member and return its answer; ``timeout`` in seconds. Raises ``Failure``."""
        limits = aiohttp.ClientTimeout(total=timeout, connect=min(CONNECT_TIMEOUT, timeout))
        try:
            session = await self._session.open()
            async with session.post(endpoint + path, data=_payload(body), timeout=limits) as response:
                text = await response.text()
                if response.status != 200:
                    raise self._error_answer(endpoint, path, response.status, text)
                answer = json.loads(text)
        except aiohttp.ConnectionTimeoutError as error:
            raise Failure(endpoint, "timed out while connecting", Done.NOT) from error
        except TimeoutError as error:
            raise Failure(endpoint, f"timed out after {timeout:.1f} s", Done.UNKNOWN) from error
        except (aiohttp.ClientConnectorError, aiohttp.ClientSSLError) as error:
            raise Failure(endpoint, _connect_reason(error), Done.NOT) from error
        except (aiohttp.ClientError, OSError) as error:
            raise Failure(endpoint, f"connection lost: {error or type(error).__name__}", Done.UNKNOWN) from error
        except ValueError as error:
            raise Failure(endpoint, f"answered something other than JSON: {error}", Done.UNKNOWN) from error
        if not isinstance(answer, dict):
            raise Failure(endpoint, "answered something other than a JSON object", Done.UNKNOWN)
        self._silent_since = None
        return answer

    async def ask(self, path: str, body: Json, *, within: float | None = None) -> Json:
        """The answer of whichever member gives one first, within ``within`` seconds (default: ``patience``).

        Only for requests that may run more than once. Raises ``Failure`` when refused, else ``StoreUnavailable``.
        """
        limit = self.patience if within is None else within
        race = _Race(self, path, body, asyncio.get_running_loop().time() + limit)
        try:
            return await race.run()
        except StoreUnavailable:
            self.gave_up()
            raise
        finally:
            for task in race.running:
                self._overtaken.add(task)
                task.add_done_callback(self._forget)

    async def revision(self) -> int:
        """The newest revision, read through the quorum."""
        answer = await self.ask("/v3/kv/range", {"key": "AA==", "range_end": "AA==", "count_only": True})
        return revision_of(answer)

    async def stream(self, endpoint: str, path: str, body: Json) -> AsyncGenerator[Json, None]:
        """The messages of a streamed answer of one member, for as long as it lasts. Raises ``Failure``."""
        parser = JsonStream()
        limits = aiohttp.ClientTimeout(total=None, connect=CONNECT_TIMEOUT)
        try:
            session = await self._session.open()
            async with asyncio.timeout(MEMBER_TIMEOUT):
                response = await session.post(endpoint + path, data=_payload(body), timeout=limits)
            async with response:
                if response.status != 200:
                    raise self._error_answer(endpoint, path, response.status, await response.text())
                while chunk := await response.content.read(STREAM_CHUNK):
                    for message in parser.feed(chunk):
                        yield _streamed(endpoint, message)
        except TimeoutError as error:
            raise Failure(endpoint, f"no stream within {MEMBER_TIMEOUT:.1f} s", Done.NOT) from error
        except (aiohttp.ClientConnectorError, aiohttp.ClientSSLError) as error:
            raise Failure(endpoint, _connect_reason(error), Done.NOT) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise Failure(endpoint, f"stream lost: {error or type(error).__name__}", Done.NOT) from error
        raise Failure(endpoint, "ended the stream", Done.NOT)

    async def close(self) -> None:
        """Close all connections; later requests raise ``StoreUnavailable``."""
        if self._overtaken:
            _, late = await asyncio.wait(self._overtaken, timeout=GRACE)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)
        await self._session.close()

    def _forget(self, task: asyncio.Task[Json]) -> None:
        """Note the end of a request that was overtaken; its outcome matters to nobody."""
        self._overtaken.discard(task)
        if not task.cancelled():
            task.exception()

    def _error_answer(self, endpoint: str, path: str, status: int, text: str) -> Failure:
        try:
            answer = json.loads(text)
            code, message = int(answer["code"]), str(answer.get("message") or answer["error"])
        except (ValueError, KeyError, TypeError, AttributeError):
            if status == 404:
                reason = f"no {path} there: its JSON gateway is off (set enable-grpc-gateway: true)"
                return Failure(endpoint, reason, Done.NOT)
            return Failure(endpoint, f"HTTP {status}: {text[:200].strip()}", Done.UNKNOWN)
        return Failure(endpoint, message, judge(code, message))


class _Race:
    """One repeatable request, sent to more and more members until one answers."""

    def __init__(self, gateway: Gateway, path: str, body: Json, deadline: float) -> None:
        self.gateway, self.path, self.body, self.deadline = gateway, path, body, deadline
        self.running: dict[asyncio.Task[Json], str] = {}
        self.failures: dict[str, str] = {}
        self.loop = asyncio.get_running_loop()

    async def run(self) -> Json:
        while True:
            order = self.gateway.endpoints
            for endpoint in order:
                if endpoint in self.running.values():
                    continue
                self._send(endpoint)
                answer = await self._wait(HEDGE_AFTER)
                if answer is not None:
                    return answer
            answer = await self._wait(HEDGE_AFTER) if self.running else None
            if answer is not None:
                return answer
            if self._left() <= PAUSE:
                raise unavailable(self.failures)
            if not self.running:
                await asyncio.sleep(PAUSE)

    def _left(self) -> float:
        return self.deadline - self.loop.time()

    def _send(self, endpoint: str) -> None:
        limit = max(0.05, min(MEMBER_TIMEOUT, self._left()))
        task = self.loop.create_task(self.gateway.attempt(endpoint, self.path, self.body, limit))
        self.running[task] = endpoint

    async def _wait(self, seconds: float) -> Json | None:
        """The first good answer within ``seconds``; sooner None if a member failed."""
        done, _ = await asyncio.wait(
            self.running, timeout=max(0.0, min(seconds, self._left())), return_when=asyncio.FIRST_COMPLETED
        )
        for task in done:
            endpoint = self.running.pop(task)
            try:
                answer = task.result()
            except Failure as failure:
                self.failures[endpoint] = failure.reason
                if failure.done in {Done.REFUSED, Done.FULL}:
                    raise
                self.gateway.avoid(endpoint)
            else:
                self.gateway.prefer(endpoint)
                return answer
        for endpoint in self.running.values():
            self.failures.setdefault(endpoint, "no answer yet")
        return None


def _payload(body: Json) -> bytes | io.BytesIO:
    """The bytes to send; a large body as a file, which is sent in pieces."""
    text = json.dumps(body).encode()
    return io.BytesIO(text) if len(text) > LARGE_BODY else text


def revision_of(answer: Json) -> int:
    """The revision in an answer's header."""
    return int(answer.get("header", {}).get("revision", 0))


def _streamed(endpoint: str, message: Any) -> Json:
    if isinstance(message, dict):
        result = message.get("result")
        if isinstance(result, dict):
            return result
        error = message.get("error")
        if isinstance(error, dict):
            raise Failure(endpoint, str(error.get("message", error)), Done.NOT)
    raise Failure(endpoint, f"sent an unknown message: {str(message)[:200]}", Done.NOT)


def _connect_reason(error: aiohttp.ClientError) -> str:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"its certificate is not trusted: {error.certificate_error}"
    if isinstance(error, aiohttp.ClientConnectorError):
        return error.os_error.strerror or str(error.os_error) or "the connection was closed at once"
    return str(error) or type(error).__name__
