"""What the HA agent asks of its node's daemon, over the local socket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import aiohttp

from racimo.errors import OperationFailed, Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

POLL_S = 20
"""How long one question for a task's end may wait for it."""
LOOK_S = 2
"""The same for a task that may be given up."""


def never() -> bool:
    """It is not given up."""
    return False


class NodeOperations(Protocol):
    """Carries commands out and returns when they are done.

    Each compares the guest's ``epoch`` and refuses an older one, and does nothing where the guest is as wanted already.
    Raises ``Unreachable`` when the daemon does not answer (it may have acted), and another ``RacimoError`` with the
    reason when the command failed.
    """

    async def start(self, vmid: int, epoch: int) -> None:
        """Start the guest, if it does not run."""

    async def stop(self, vmid: int, epoch: int) -> None:
        """Shut the guest down, by force in the end."""

    async def migrate(
        self, vmid: int, epoch: int, target: str, live: bool, given_up: Callable[[], bool] = never
    ) -> None:
        """Move the guest to ``target``; afterwards the guest's record names it. Cancelled if ``given_up`` comes to say
        so before the guest was handed over."""


class NodeClient:
    """``NodeOperations`` over HTTP on the node daemon's unix socket."""

    def __init__(self, node: str, socket: Path) -> None:
        self.node, self._socket = node, socket
        self._session: aiohttp.ClientSession | None = None

    async def start(self, vmid: int, epoch: int) -> None:
        await self._command(vmid, {"command": "start", "epoch": epoch})

    async def stop(self, vmid: int, epoch: int) -> None:
        await self._command(vmid, {"command": "stop", "epoch": epoch})

    async def migrate(
        self, vmid: int, epoch: int, target: str, live: bool, given_up: Callable[[], bool] = never
    ) -> None:
        command = "migrate" if live else "relocate"
        await self._command(vmid, {"command": command, "epoch": epoch, "target": target}, given_up)

    async def read(self, path: str) -> object:
        """What the API answers at ``path``."""
        return await self._ask("GET", path, 0)

    async def ping_agent(self, vmid: int) -> None:
        """Return when the guest's agent answered; raises with the reason when it did not."""
        await self._ask("POST", f"/nodes/{self.node}/qemu/{vmid}/agent/ping", vmid)

    async def close(self) -> None:
        """Give the connection back."""
        if self._session is not None:
            await self._session.close()

    async def _command(self, vmid: int, body: dict[str, str | int], given_up: Callable[[], bool] = never) -> None:
        path = f"/nodes/{self.node}/qemu/{vmid}/racimo/ha"
        upid = await self._ask("POST", path, vmid, json=body)
        if not isinstance(upid, str):
            raise OperationFailed(f"The command for guest {vmid} was not taken", why=f"the node answered {upid!r}")
        task, wait, cancelled = f"/nodes/{self.node}/tasks/{upid}", POLL_S if given_up is never else LOOK_S, False
        while True:
            if not cancelled and given_up():
                cancelled = True
                await self._ask("DELETE", task, vmid)
            status = await self._ask("GET", f"{task}/status", vmid, params={"wait": str(wait)})
            if not isinstance(status, dict):
                raise OperationFailed(f"Task {upid} cannot be followed", why=f"the node answered {status!r}")
            if status.get("status") == "stopped":
                break
        end = str(status.get("exitstatus", ""))
        if end != "OK" and not end.startswith("WARNINGS"):
            raise OperationFailed(f"{body['command']} of guest {vmid} failed", why=end)

    async def _ask(self, method: str, path: str, vmid: int, **arguments: Any) -> object:
        """One request; the ``data`` of its answer."""
        session = self._open()
        url = "http://localhost/api2/json" + path
        try:
            async with session.request(method, url, **arguments) as response:
                answer = await response.json(content_type=None)
                if response.status >= 400:
                    message = answer.get("message") if isinstance(answer, dict) else None
                    why = str(message or response.reason or response.status).strip()
                    raise OperationFailed(f"The node refused the command for guest {vmid}", why=why)
                return answer.get("data") if isinstance(answer, dict) else None
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise Unreachable(
                f"The node's daemon does not answer on {self._socket}",
                why=str(error) or type(error).__name__,
                todo="See: journalctl -u racimo-node",
                may_have_acted=not isinstance(error, aiohttp.ClientConnectorError),
            ) from error

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.UnixConnector(str(self._socket), limit=32),
                timeout=aiohttp.ClientTimeout(total=POLL_S + 10, sock_connect=2),
            )
        return self._session
