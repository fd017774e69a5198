"""Notifications on one node: the parts of ``racimo.notification`` over the node's store, tasks and peers."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import structlog
from cryptography import x509

from racimo.errors import RacimoError
from racimo.notification.delivery import Delivery
from racimo.notification.judge import judge_certificate
from racimo.notification.notifier import Notifier
from racimo.notification.post import Post
from racimo.notification.quorum import QuorumWatch
from racimo.notification.settings import NotificationSettings
from racimo.notification.teller import Teller
from racimo.store.mirror import MirroredCollection

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from racimo.api.peers import Peers
    from racimo.model.paths import NodePaths
    from racimo.notification.events import Verdict
    from racimo.store.layout import Layout
    from racimo.store.mirror import Mirror
    from racimo.store.sealing import Sealing
    from racimo.task.runner import TaskRunner

log = structlog.get_logger()

LOOK_AT_CERTIFICATES_S = 3600.0
BEGIN_ANEW_S = 10.0


class Notifying:
    """What the daemon wires up. ``is_sender()``: whether this node sends what the store holds."""

    def __init__(
        self,
        layout: Layout,
        mirror: Mirror,
        tasks: TaskRunner,
        peers: Peers,
        paths: NodePaths,
        node: str,
        node_id: str,
        sealing: Sealing,
        *,
        is_sender: Callable[[], bool],
    ) -> None:
        self._mirror, self._paths, self._node = mirror, paths, node
        self._datacenter = MirroredCollection(mirror, layout.datacenter)
        deliver = Delivery(self._name, node, sealing)
        self.settings = NotificationSettings(layout, deliver, node, time.time, sealing)
        teller = Teller(layout, mirror, node, time.time, node_id)
        self._post = Post(layout, mirror, node, deliver, is_sender, time.time)
        self._notifier = Notifier(teller, self._post, tasks, is_sender)
        self.quorum = QuorumWatch(teller, self._post, PeersAsked(peers), self._stale_s, paths.quorum_said)

    async def run(self) -> None:
        """Until cancelled. Whatever goes wrong here ends neither the daemon nor anything else of it."""
        while True:
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._notifier.run(), name="notifier")
                    group.create_task(self.quorum.run(), name="quorum")
                    group.create_task(self._look_at_certificates(), name="certificates")
            except Exception:
                log.exception("notifications broke off and begin anew", after_s=BEGIN_ANEW_S)
                await asyncio.sleep(BEGIN_ANEW_S)

    async def _look_at_certificates(self) -> None:
        while True:
            self._notifier.submit(judge_certificates(self._paths.etc, self._node, time.time()))
            await asyncio.sleep(LOOK_AT_CERTIFICATES_S)

    def _stale_s(self) -> float | None:
        since = self._mirror.stale_since
        return None if since is None else time.monotonic() - since

    def _name(self) -> str:
        held = self._datacenter.find("settings")
        return held.record.name if held else self._node


class PeersAsked:
    """``Others`` by the API: mutual TLS, no store needed."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers

    async def ask(self, timeout: float) -> Mapping[str, bool | None]:
        """Each other node at once."""
        async with asyncio.TaskGroup() as group:
            asked = {name: group.create_task(self._ask(name, timeout)) for name in self._peers.names}
        return {name: task.result() for name, task in asked.items()}

    async def _ask(self, name: str, timeout: float) -> bool | None:
        try:
            answer = await self._peers.call(name, "GET", "/racimo/notifications/quorum", timeout=timeout)
        except RacimoError as error:
            log.debug("a node did not say whether it has the store", node=name, why=str(error))
            return None
        return bool(answer.get("lost")) if isinstance(answer, dict) else None


def judge_certificates(folder: Path, node: str, now: float) -> list[Verdict]:
    """The node's certificate and the authority's, as they stand in ``folder``. One that is not there says nothing."""
    verdicts: list[Verdict] = []
    for name, authority in (("node.crt", False), ("ca.crt", True)):
        try:
            certificate = x509.load_pem_x509_certificate((folder / name).read_bytes())
        except FileNotFoundError:
            continue
        except ValueError as error:
            log.warning("a certificate cannot be read", file=name, why=str(error))
            continue
        left = certificate.not_valid_after_utc.timestamp() - now
        verdicts += judge_certificate(node, left, authority=authority)
    return verdicts
