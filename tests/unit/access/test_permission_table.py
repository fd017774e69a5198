"""Every row of the table: for nobody, for just the privilege it takes, for all but that, and for it somewhere else."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

import pytest

from racimo.access.privileges import PRIVILEGES
from racimo.api.admission import admit, paths_of
from racimo.api.context import Origin, Who
from racimo.api.dispatch import Dispatcher
from racimo.api.endpoint import Access, Endpoint, Permission
from racimo.api.incoming import Incoming
from racimo.errors import Unauthorised
from racimo.model.access import Role

from .site import TABLE, Site

if TYPE_CHECKING:
    from collections.abc import Iterable

USER = "anna@pve"
NOBODY, ANNA = Who(Origin.NETWORK), Who(Origin.NETWORK, user=USER)
VALUES = {
    "node": "n1", "vmid": "100", "storage": "fast", "userid": "ben@pve", "groupid": "staff", "groups": "staff",
    "roleid": "Look", "tokenid": "ci", "poolid": "lab", "realm": "pve", "path": "/vms/100", "id": "recovery",
    "upid": "UPID:n1:00000001:00000002:6B49D200:qmstart:100:root@pam:", "volume": "fast:100/disk", "name": "n2",
    "username": "ben@pve",
}  # fmt: skip
guarded = [row for row in TABLE if row.permission.access is Access.PRIVILEGE]


def values(row: Endpoint) -> dict[str, str]:
    """What the row's path and permission need, as a client would send it."""
    wanted = {name for name, _ in re.findall(r"\{([a-z0-9_]+)(\*?)\}", row.path)}
    for permission in (row.permission, *row.permission.also):
        wanted |= set(re.findall(r"\{([a-z0-9_]+)\*?\}", permission.path))
    wanted |= {known.alias or name for name, known in row.parameters.model_fields.items() if known.is_required()}
    return {name: VALUES.get(name, "x1") for name in wanted}


async def asked(site: Site, row: Endpoint, who: Who) -> int:
    """The code of the answer to a request that names what the permission is about, and nothing else."""
    given = values(row)
    path = re.sub(r"\{([a-z0-9_]+)\*?\}", lambda match: quote(given.pop(match[1]), safe=""), row.path)
    query = urlencode({name: value for name, value in given.items() if name in row.parameters.names()})
    reply = await Dispatcher(TABLE, site.services).answer(Incoming(who, row.method, path, query))
    return reply.status


def let_in(site: Site, row: Endpoint) -> bool:
    """Whether the row itself lets the user in; its handler may ask for more, by what the request says."""
    try:
        admit(row, ANNA, values(row), site.services)
    except Unauthorised:
        return False
    return True


async def may(site: Site, wanted: Iterable[tuple[str, Iterable[str]]]) -> None:
    """Give the user exactly these privileges on these paths, not below them."""
    await site.revoke_all()
    for number, (path, privileges) in enumerate(wanted):
        name = f"Just{number}"
        role, held = Role(name=name, privileges=tuple(privileges)), await site.layout.roles.find(name)
        await site.store.txn(puts=[site.layout.roles.put(name, role, held)])
        await site.grant(path, USER, name, propagate=False)


def needs(row: Endpoint) -> list[tuple[str, tuple[str, ...]]]:
    """The paths that the row looks at, each with the privileges of which one is enough there."""
    every: list[Permission] = [row.permission, *row.permission.also]
    return [(path, each.privileges) for each in every for path in paths_of(each, values(row))]


@pytest.fixture
async def staffed(site: Site) -> Site:
    await site.user(USER)
    await site.user("ben@pve", groups=("staff",))
    return site


def test_every_row_asks_for_privileges_that_there_are() -> None:
    asked_for = {name for row in TABLE for each in (row.permission, *row.permission.also) for name in each.privileges}
    assert asked_for <= set(PRIVILEGES)


async def test_nobody_is_told_to_log_in_at_every_row_but_the_open_ones(staffed: Site) -> None:
    for row in TABLE:
        if row.permission.access is not Access.NOBODY:
            assert await asked(staffed, row, NOBODY) == 401, f"{row.method} {row.path}"


async def test_a_user_without_any_privilege_is_refused_wherever_one_is_needed(staffed: Site) -> None:
    for row in TABLE:
        if row.permission.access in (Access.PRIVILEGE, Access.NODES):
            assert await asked(staffed, row, ANNA) == 403, f"{row.method} {row.path}"


async def test_a_user_with_just_the_privilege_is_let_in(staffed: Site) -> None:
    for row in guarded:
        await may(staffed, [(path, privileges[:1]) for path, privileges in needs(row)])
        assert await asked(staffed, row, ANNA) not in (401, 403), f"{row.method} {row.path}"


async def test_any_one_of_the_privileges_is_enough(staffed: Site) -> None:
    for row in guarded:
        for privilege in row.permission.privileges:
            others = [(path, privileges[:1]) for path, privileges in needs(row)[1:]]
            await may(staffed, [(needs(row)[0][0], (privilege,)), *others])
            assert let_in(staffed, row), f"{row.method} {row.path}: {privilege}"


async def test_all_other_privileges_together_are_not_enough(staffed: Site) -> None:
    for row in guarded:
        for missing, (path, privileges) in enumerate(needs(row)):
            rest = [each for number, each in enumerate(needs(row)) if number != missing]
            if any(other == path for other, _ in rest):
                continue
            await may(staffed, [(path, set(PRIVILEGES) - set(privileges)), *rest])
            assert await asked(staffed, row, ANNA) == 403, f"{row.method} {row.path}"


async def test_the_privilege_below_or_beside_the_path_is_not_enough(staffed: Site) -> None:
    for row in guarded:
        for path, privileges in needs(row):
            above, _, _ = path.rpartition("/")
            elsewhere = [f"{path.rstrip('/')}/below", f"{above}/beside"]
            if row.permission.group_of:
                elsewhere[0] = "/access/groups/other"
            await may(staffed, [(other, privileges) for other in elsewhere])
            assert await asked(staffed, row, ANNA) == 403, f"{row.method} {row.path}"


async def test_what_only_people_may_is_refused_to_a_token_that_may_everything(staffed: Site) -> None:
    await staffed.grant("/", USER, "Administrator")
    await staffed.token(USER, "ci", privsep=False)
    for row in TABLE:
        if row.permission.people:
            with pytest.raises(Unauthorised, match="API tokens may not"):
                admit(row, Who(Origin.NETWORK, user=f"{USER}!ci"), values(row), staffed.services)


async def test_a_token_may_no_more_than_its_user_at_any_row(staffed: Site) -> None:
    token = Who(Origin.NETWORK, user=f"{USER}!ci")
    await staffed.token(USER, "ci")
    await staffed.grant("/", f"{USER}!ci", "Administrator")
    for row in guarded:
        assert await asked(staffed, row, token) == 403, f"{row.method} {row.path}"


async def test_a_number_written_in_another_way_does_not_go_around_no_access(staffed: Site) -> None:
    await staffed.grant("/vms", USER, "PVEVMAdmin")
    await staffed.grant("/vms/100", USER, "NoAccess")
    row = next(row for row in TABLE if row.path.endswith("/qemu/{vmid}/config") and row.method == "GET")
    dispatcher = Dispatcher(TABLE, staffed.services)
    for written in ("100", "0100", "+100", "%31%30%30", "100.0", " 100", "1e2", "%D9%A1%D9%A0%D9%A0"):
        path = row.path.replace("{node}", "n1").replace("{vmid}", quote(written, safe="%"))
        assert (await dispatcher.answer(Incoming(ANNA, "GET", path))).status in (400, 403), written
