"""Asking an application how it is: by the guest's agent, by a TCP connection, or by HTTP."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import aiohttp

from racimo.errors import BadParameter, OperationFailed

if TYPE_CHECKING:
    from racimo.ha.node_client import NodeClient
    from racimo.model.ha import Resource

AGENT = "agent"


def check_probe(probe: str) -> None:
    """Raises ``BadParameter`` unless ``probe`` is empty, ``agent``, ``tcp:HOST:PORT`` or an HTTP URL."""
    if probe in ("", AGENT):
        return
    try:
        if probe.startswith("tcp:"):
            tcp_address(probe)
            return
        parts = urlsplit(probe)
        if parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0):
            return
    except ValueError:
        pass
    raise BadParameter(
        {"probe": f"'{probe}' is none"}, todo="Write agent, tcp:10.0.0.5:22 or http://10.0.0.5/health, or nothing"
    )


def tcp_address(probe: str) -> tuple[str, int]:
    """Host and port of ``tcp:HOST:PORT``; an IPv6 address stands in brackets. Raises ``ValueError``."""
    host, separator, port = probe.removeprefix("tcp:").rpartition(":")
    number = int(port)
    if not separator or not host.strip("[]") or not 0 < number < 65536:
        raise ValueError(probe)
    return host.strip("[]"), number


@dataclass(frozen=True, slots=True)
class ProbeSettings:
    """What is to be set of a resource's probe (see ``Resource``; seconds); None leaves a field as it is."""

    probe: str | None = None
    interval: float | None = None
    timeout: float | None = None
    failures: int | None = None
    grace: float | None = None

    def onto(self, resource: Resource) -> Resource:
        """``resource`` with what is given. Raises ``BadParameter`` if its probe is none."""
        changed = replace(
            resource,
            probe=resource.probe if self.probe is None else self.probe,
            probe_interval=resource.probe_interval if self.interval is None else self.interval,
            probe_timeout=resource.probe_timeout if self.timeout is None else self.timeout,
            probe_failures=resource.probe_failures if self.failures is None else self.failures,
            probe_grace=resource.probe_grace if self.grace is None else self.grace,
        )
        check_probe(changed.probe)
        return changed


AS_IT_IS = ProbeSettings()


class Probes:
    """``Application`` for guests of this node."""

    def __init__(self, client: NodeClient) -> None:
        self._client = client

    async def ask(self, vmid: int, probe: str, timeout: float) -> None:
        """See ``Application.ask``. Any HTTP status below 400 is an answer; certificates are not checked."""
        try:
            async with asyncio.timeout(timeout):
                if probe == AGENT:
                    await self._client.ping_agent(vmid)
                elif probe.startswith("tcp:"):
                    await _connect(*tcp_address(probe))
                else:
                    await _get(probe)
        except TimeoutError:
            raise OperationFailed(f"{probe} did not answer within {timeout:g} s") from None
        except (OSError, ValueError, aiohttp.ClientError) as error:
            raise OperationFailed(f"{probe} does not answer", why=str(error) or type(error).__name__) from error


async def _connect(host: str, port: int) -> None:
    _, writer = await asyncio.open_connection(host, port)
    writer.close()
    await writer.wait_closed()


async def _get(url: str) -> None:
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=False, force_close=True)) as session,
        session.get(url, allow_redirects=False) as answer,
    ):
        if answer.status >= 400:
            raise OperationFailed(f"{url} answered {answer.status} {answer.reason}")
