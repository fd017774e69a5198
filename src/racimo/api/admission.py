"""Letting somebody in to a row of the table, or not."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from racimo.access.control import AccessControl
from racimo.access.names import Asker, parse_asker
from racimo.api.endpoint import Access
from racimo.errors import BadParameter, NotLoggedIn, Unauthorised
from racimo.task.runner import ROOT
from racimo.task.upid import Upid

if TYPE_CHECKING:
    from collections.abc import Mapping

    from racimo.api.context import Who
    from racimo.api.endpoint import Endpoint, Permission
    from racimo.api.services import Services

_PLACEHOLDER = re.compile(r"\{([a-z_]+)(\*?)\}")


def admit_class(endpoint: Endpoint, who: Who) -> None:
    """Refuse those whom no privilege could let in: who is not logged in, and users where only nodes may ask."""
    access = endpoint.permission.access
    if access is Access.NOBODY:
        return
    demand_login(who)
    if access is Access.NODES and not who.is_node:
        raise Unauthorised(
            f"Permission check failed ({endpoint.path})", why="only nodes of the datacenter may ask this"
        )


def admit(endpoint: Endpoint, who: Who, values: Mapping[str, object], services: Services) -> None:
    """Let ``who`` in with the parameters ``values``, or raise ``NotLoggedIn`` or ``Unauthorised``.

    Root and the nodes may do everything. ``values`` are those that the handler works with, not as they were written:
    else ``0100`` would ask for another permission than ``100``.
    """
    admit_class(endpoint, who)
    if endpoint.permission.access is Access.NOBODY or who.user == ROOT:
        return
    if endpoint.permission.access is Access.NODES:
        return
    access = services.need(AccessControl)
    if not access.active(who.asker):
        raise NotLoggedIn("permission denied - the user is disabled or expired")
    if endpoint.permission.people and who.asker.token:
        raise Unauthorised(f"Permission check failed ({endpoint.path})", why="API tokens may not do this")
    own = endpoint.permission.own
    if own and _is_own(str(values.get(own) or ""), who.asker):
        return
    if endpoint.permission.access is Access.PRIVILEGE:
        for permission in (endpoint.permission, *endpoint.permission.also):
            _demand(permission, who.asker, values, access)


def demand_login(who: Who) -> None:
    """Raises ``NotLoggedIn``."""
    if who.user:
        return
    if who.refusal:
        raise NotLoggedIn(who.refusal)
    raise NotLoggedIn(
        "No ticket", why="this request comes without a login",
        todo="Log in: POST /access/ticket, or send an API token",
    )  # fmt: skip


def paths_of(permission: Permission, values: Mapping[str, object]) -> list[str]:
    """The ACL paths that ``permission`` is about, with the parameters filled in."""
    paths = [""]
    for step in permission.path.split("/")[1:]:
        match = _PLACEHOLDER.fullmatch(step)
        filled = [step] if match is None else _filled(values.get(match[1]), match[1], rest=bool(match[2]))
        if filled:
            paths = [f"{path}/{one}" for path in paths for one in filled]
    return [path or "/" for path in paths]


def _demand(permission: Permission, asker: Asker, values: Mapping[str, object], access: AccessControl) -> None:
    named = str(values.get(permission.group_of)) if permission.group_of else ""
    if named == ROOT:
        raise Unauthorised(f"Permission check failed ({ROOT})", why="nobody else may change it, or see what it has")
    user = access.roster.policy().users.get(named)
    for group in user.groups if user else ():
        if access.allows(asker, f"/access/groups/{group}", *permission.privileges):
            return
    for path in paths_of(permission, values):
        if not access.allows(asker, path, *permission.privileges):
            raise Unauthorised(f"Permission check failed ({path}, {'|'.join(permission.privileges)})")


def _is_own(named: str, asker: Asker) -> bool:
    """Whether ``named``, a user or a task, is the asker's own: a token's tasks are its own and its user's."""
    if not named.startswith("UPID:"):
        return bool(named) and Asker(named) == asker
    try:
        by = parse_asker(Upid.parse(named).user)
    except BadParameter:
        return False
    return by == asker or Asker(by.user) == asker


def _filled(value: object, name: str, *, rest: bool) -> list[str]:
    if value is None or value == "":
        return []
    parts = value if isinstance(value, list | tuple | set | frozenset) else [value]
    texts = [str(part) for part in parts]
    for text in texts:
        if "/" in text and not rest:
            raise BadParameter({name: f"'{text[:80]}' holds a slash"})
    return [text.strip("/") for text in texts] if rest else texts
