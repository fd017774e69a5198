"""A node with users in this process: the whole table over real TLS, a store in memory, cheap hashes, no waiting."""

from __future__ import annotations

import json
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import aiohttp
from api.certificates import Authority

from racimo.access.control import AccessControl, Machinery
from racimo.access.pam import Pam
from racimo.access.passwords import Passwords
from racimo.api.inventory import Inventory
from racimo.api.peers import Peers
from racimo.api.server import ApiServer
from racimo.api.services import Services
from racimo.model.access import AclEntry, Grantee
from racimo.model.datacenter import Datacenter
from racimo.model.guest import Guest
from racimo.model.node import Node, NodeFacts
from racimo.model.paths import NodePaths
from racimo.model.storage import Storage
from racimo.node.table import build_table
from racimo.store.layout import ROOT, Layout
from racimo.store.memory import MemoryStore
from racimo.store.mirror import Mirror
from racimo.store.sealing import Keyring, Sealing, dump_ring, new_sealing_key
from racimo.task.runner import TaskRunner

if TYPE_CHECKING:
    from pathlib import Path

    from racimo.access.logins import Login

TABLE = build_table()
PASSWORD = "correct horse battery"


@dataclass
class Time:
    """The clocks of a site. Waiting is noted, and takes no time."""

    now: float = 1_800_000_000.0
    waited: list[float] = field(default_factory=list)

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.waited.append(seconds)


class AllOnline:
    def online(self, node: str) -> bool:
        return True


@dataclass(frozen=True)
class Answer:
    status: int
    reason: str
    body: dict[str, Any]

    @property
    def data(self) -> Any:
        return self.body.get("data")


class Site:
    """One node. ``directory`` gives the nodes' addresses, ``store`` what they share."""

    def __init__(
        self,
        root: Path,
        *,
        name: str = "n1",
        store: MemoryStore | None = None,
        directory: dict[str, tuple[str, int]] | None = None,
        authority: Authority | None = None,
    ) -> None:
        self.name, self.time = name, Time()
        self.store = store or MemoryStore()
        self.directory = {} if directory is None else directory
        self.layout, self.paths = Layout(self.store), NodePaths(root / name)
        self.mirror = Mirror(self.store, ROOT)
        self.authority = authority or Authority(root / "ca")
        self.tls = self.authority.issue(name)
        self.paths.etc.mkdir(parents=True)
        self._ring = root / "sealing.json"
        if not self._ring.exists():
            key = new_sealing_key()
            self._ring.write_bytes(dump_ring(Keyring().with_keys((key,), key.id)))
        machinery = Machinery(
            wall=self.time, clock=self.time, sleep=self.time.sleep, passwords=lambda: Passwords(memory_kib=64),
            pam=lambda: Pam(["false"], ["false"]),
        )  # fmt: skip
        self.access = AccessControl(self.layout, self.mirror, Sealing(self._ring), machinery)
        self.tasks = TaskRunner(name, self.paths)
        self.peers = Peers(name, lambda: self.directory, self.tls)
        self.services = Services(
            node_name=name, paths=self.paths, layout=self.layout, tasks=self.tasks, peers=self.peers,
            caught_up=self.caught_up,
        )  # fmt: skip
        self.services.provide(self.access)
        self.services.provide(Inventory(self.layout, self.mirror, AllOnline(), name, frozenset))
        self.server = ApiServer(TABLE, self.services, lambda peer, dc: peer in self.directory)
        self.session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Serve; the datacenter has two nodes, two guests and two storages."""
        await self.mirror.start()
        await self.access.keys.make()
        await self.caught_up()
        await self.server.serve_tls(self.tls, "127.0.0.1", 0)
        self.directory[self.name] = ("127.0.0.1", self.server.port)
        context = ssl.create_default_context(cafile=str(self.tls.ca))
        self.session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context, limit=0))

    async def stop(self) -> None:
        if self.session is not None:
            await self.session.close()
        await self.server.close()
        await self.tasks.close()
        await self.peers.close()
        await self.mirror.stop()

    async def caught_up(self) -> None:
        await self.mirror.wait_for(await self.store.revision(), 5)

    async def furnish(self) -> None:
        """Records to see, or not."""
        await self.layout.datacenter.create("settings", Datacenter(id="dc-1", name="lab"))
        for node in ("n1", "n2"):
            await self.layout.nodes.create(node, Node(name=node, id="dc-1", address="127.0.0.1", facts=NodeFacts()))
        for vmid in (100, 101):
            await self.layout.guests.create(vmid, Guest(vmid=vmid, node="n1", config={"name": f"guest-{vmid}"}))
        for storage in ("fast", "slow"):
            await self.layout.storages.create(storage, Storage(id=storage, type="dir", path=f"/srv/{storage}"))
        await self.caught_up()

    async def user(self, name: str = "anna@pve", *, groups: tuple[str, ...] = (), password: str = PASSWORD) -> str:
        """A user with a password; groups that are not there are made."""
        from racimo.model.access import Group, User

        for group in groups:
            if await self.layout.groups.find(group) is None:
                await self.layout.groups.create(group, Group(name=group))
        await self.access.users.create(User(name=name, groups=groups), password)
        await self.caught_up()
        return name

    async def grant(self, path: str, grantee: str, role: str, *, propagate: bool = True) -> None:
        kind = Grantee.TOKEN if "!" in grantee else Grantee.USER if "@" in grantee else Grantee.GROUP
        entry = AclEntry(path=path, kind=kind, grantee=grantee, role=role, propagate=propagate)
        held = await self.layout.acl.find(entry.id)
        await self.store.txn(puts=[self.layout.acl.put(entry.id, entry, held)])
        await self.caught_up()

    async def revoke_all(self) -> None:
        await self.store.txn(deletes=[self.layout.acl.key(name) for name in await self.layout.acl.all()])
        await self.caught_up()

    async def log_in(self, user: str = "anna@pve", password: str = PASSWORD, **more: str) -> Login:
        from racimo.access.logins import Attempt

        return await self.access.logins.log_in(Attempt(user=user, password=password, address="10.0.0.9", **more))

    async def ticket(self, user: str = "anna@pve") -> dict[str, str]:
        """Headers of somebody who is logged in."""
        signer = self.access.keys.signer()
        record = self.access.roster.policy().users.get(user)
        now = max(self.time(), (record.tickets_from if record else 0) + 1)
        return {
            "Cookie": f"PVEAuthCookie={signer.ticket(user, now)}",
            "CSRFPreventionToken": signer.form_token(user, now),
        }

    async def token(self, user: str = "anna@pve", name: str = "ci", *, privsep: bool = True) -> dict[str, str]:
        """Headers of a new token."""
        from racimo.model.access import Token

        secret = await self.access.tokens.create(Token(user=user, name=name, privsep=privsep))
        await self.caught_up()
        return {"Authorization": f"PVEAPIToken={user}!{name}={secret}"}

    async def ask(
        self, method: str, path: str, headers: dict[str, str] | None = None, form: dict[str, Any] | None = None
    ) -> Answer:
        """Over TLS; parameters as a form, or in the query of what has no body."""
        assert self.session is not None
        url = f"https://127.0.0.1:{self.server.port}/api2/json{path}"
        body, sent = None, dict(headers or {})
        if form and method in ("POST", "PUT"):
            body, sent["Content-Type"] = urlencode(form, doseq=True), "application/x-www-form-urlencoded"
        elif form:
            url += "?" + urlencode(form, doseq=True)
        from yarl import URL

        async with self.session.request(method, URL(url, encoded=True), headers=sent, data=body) as answer:
            content = await answer.read()
            return Answer(answer.status, answer.reason or "", json.loads(content) if content else {})
