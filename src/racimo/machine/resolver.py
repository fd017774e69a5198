"""Name servers of this machine: resolv.conf(5)."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from racimo.errors import BadParameter, Refused
from racimo.machine.files import read_text, replace_text

if TYPE_CHECKING:
    from pathlib import Path

MAX_SERVERS = 3
"""More are not asked (resolv.conf(5), MAXNS)."""
_DOMAIN = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,250}[A-Za-z0-9_.])?")


@dataclass(frozen=True, slots=True)
class Resolver:
    """The first search domain, and up to three name servers, in order."""

    search: str = ""
    servers: tuple[str, ...] = ()

    def validate(self) -> None:
        """Raises ``BadParameter`` that names what is wrong."""
        wrong: dict[str, str] = {}
        if self.search and not _DOMAIN.fullmatch(self.search):
            wrong["search"] = f"'{self.search[:80]}' is not a domain"
        for number, server in enumerate(self.servers, 1):
            try:
                ipaddress.ip_address(server)
            except ValueError:
                wrong[f"dns{number}"] = f"'{server[:80]}' is not an address"
        if wrong:
            raise BadParameter(wrong)


def read_resolver(path: Path) -> Resolver:
    """What the file says; of several search domains the first."""
    search, servers = "", []
    for line in read_text(path).splitlines():
        word, *values = line.split()[:2] or [""]
        if word in ("search", "domain") and values:
            search = values[0]
        elif word == "nameserver" and values:
            servers.append(values[0])
    return Resolver(search, tuple(servers[:MAX_SERVERS]))


def write_resolver(path: Path, resolver: Resolver) -> None:
    """Change search domain and name servers; all other lines stay. Refuses a file that another program writes."""
    resolver.validate()
    if path.is_symlink():
        raise Refused(
            f"The name servers in {path} were not changed", why=f"it belongs to another program: {path.readlink()}",
            todo="Configure that program, or replace the link by a file",
        )  # fmt: skip
    kept = [line for line in read_text(path).splitlines() if line.split()[:1] not in _OURS]
    ours = [f"search {resolver.search}"] if resolver.search else []
    ours += [f"nameserver {server}" for server in resolver.servers]
    replace_text(path, "\n".join([*kept, *ours]) + "\n")


_OURS = (["search"], ["domain"], ["nameserver"])
