"""Groups, roles and the ACL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from racimo.access.acl import AclChange
from racimo.access.control import AccessControl
from racimo.access.names import check_path, segments_of
from racimo.access.privileges import BUILT_IN, PRIVILEGES
from racimo.api.endpoint import LOGGED_IN, Routes, privilege
from racimo.api.parameters import Parameters
from racimo.errors import Unauthorised
from racimo.model.access import Grantee

if TYPE_CHECKING:
    from pydantic import JsonValue

    from racimo.api.context import Context

ALLOCATE = privilege("/access/groups", "Group.Allocate")
MODIFY_ROLES = privilege("/access", "Sys.Modify")
_DELEGATES = {"vms": "VM.Allocate", "storage": "Datastore.Allocate", "pool": "Pool.Allocate"}
"""Who may make things of a kind may let others use them too."""
DELEGATE = privilege("/{path*}", "Permissions.Modify", *_DELEGATES.values())

routes = Routes()


class OfGroup(Parameters):
    """One group."""

    groupid: str


class GroupOptions(OfGroup):
    """A group with its comment."""

    comment: str = ""


class OfRole(Parameters):
    """One role."""

    roleid: str


class RoleOptions(OfRole):
    """A role with its privileges."""

    privs: tuple[str, ...] = ()


class ChangeRole(RoleOptions):
    """Changes of a role."""

    append: Annotated[bool, Field(description="Add the privileges instead of replacing them.")] = False


class ListAcl(Parameters):
    """Which entries."""

    path: Annotated[str | None, Field(description="Only those on this path.")] = None
    exact: Annotated[bool, Field(description="Taken from clients; paths are compared exactly.")] = True


class ChangeAcl(Parameters):
    """Who gets, or loses, which roles where."""

    path: Annotated[str, Field(description="Such as / or /vms/100 or /pool/lab.")]
    roles: tuple[str, ...]
    users: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    tokens: tuple[str, ...] = ()
    propagate: Annotated[bool, Field(description="Whether it holds below the path too.")] = True
    delete: Annotated[bool, Field(description="Take away instead of giving.")] = False


@routes.add("GET", "/access/groups", permission=LOGGED_IN, summary="The groups")
async def list_groups(context: Context, parameters: Parameters) -> list[dict[str, JsonValue]]:
    """Those over which you have User.Modify, Sys.Audit or Group.Allocate."""
    policy = context.services.need(AccessControl).roster.policy()
    shown: list[dict[str, JsonValue]] = []
    for name, group in sorted(policy.groups.items()):
        if context.may(f"/access/groups/{name}", "User.Modify", "Sys.Audit", "Group.Allocate"):
            members = sorted(user.name for user in policy.users.values() if name in user.groups)
            shown.append({"groupid": name, "comment": group.comment, "users": ",".join(members)})
    return shown


@routes.add("POST", "/access/groups", permission=ALLOCATE, parameters=GroupOptions, summary="Make a group")
async def create_group(context: Context, parameters: GroupOptions) -> None:
    """Users are put into it by changing them."""
    await context.services.need(AccessControl).groups.create(parameters.groupid, parameters.comment)


@routes.add(
    "GET", "/access/groups/{groupid}", permission=privilege("/access/groups/{groupid}", "Sys.Audit", "Group.Allocate"),
    parameters=OfGroup, summary="A group",
)  # fmt: skip
async def get_group(context: Context, parameters: OfGroup) -> dict[str, JsonValue]:
    """With its members."""
    access = context.services.need(AccessControl)
    group = await access.groups.get(parameters.groupid)
    members = sorted(user.name for user in access.roster.policy().users.values() if group.name in user.groups)
    return {"comment": group.comment, "members": [*members]}


@routes.add("PUT", "/access/groups/{groupid}", permission=ALLOCATE, parameters=GroupOptions, summary="Change a group")
async def change_group(context: Context, parameters: GroupOptions) -> None:
    """Its comment."""
    await context.services.need(AccessControl).groups.comment(parameters.groupid, parameters.comment)


@routes.add("DELETE", "/access/groups/{groupid}", permission=ALLOCATE, parameters=OfGroup, summary="Remove a group")
async def remove_group(context: Context, parameters: OfGroup) -> None:
    """Its members stay, without it; its permissions go."""
    await context.services.need(AccessControl).groups.remove(parameters.groupid)


@routes.add("GET", "/access/roles", permission=LOGGED_IN, summary="The roles")
async def list_roles(context: Context, parameters: Parameters) -> list[dict[str, JsonValue]]:
    """With their privileges; ``special`` is 1 for the built-in ones."""
    roles = await context.services.need(AccessControl).roles.all()
    return [
        {"roleid": name, "privs": ",".join(sorted(privileges)), "special": int(name in BUILT_IN)}
        for name, privileges in roles.items()
    ]


@routes.add("GET", "/racimo/access/privileges", permission=LOGGED_IN, summary="The privileges, and what each is for")
async def list_privileges(context: Context, parameters: Parameters) -> list[JsonValue]:
    """By name."""
    return [{"privilege": name, "description": text} for name, text in PRIVILEGES.items()]


@routes.add("POST", "/access/roles", permission=MODIFY_ROLES, parameters=RoleOptions, summary="Make a role")
async def create_role(context: Context, parameters: RoleOptions) -> None:
    """Of any privileges."""
    await context.services.need(AccessControl).roles.create(parameters.roleid, parameters.privs)


@routes.add("GET", "/access/roles/{roleid}", permission=LOGGED_IN, parameters=OfRole, summary="A role")
async def get_role(context: Context, parameters: OfRole) -> dict[str, JsonValue]:
    """Its privileges, each with 1."""
    privileges = await context.services.need(AccessControl).roles.get(parameters.roleid)
    return dict.fromkeys(sorted(privileges), 1)


@routes.add("PUT", "/access/roles/{roleid}", permission=MODIFY_ROLES, parameters=ChangeRole, summary="Change a role")
async def change_role(context: Context, parameters: ChangeRole) -> None:
    """For all who have it, at once."""
    roles = context.services.need(AccessControl).roles
    await roles.change(parameters.roleid, parameters.privs, append=parameters.append)


@routes.add("DELETE", "/access/roles/{roleid}", permission=MODIFY_ROLES, parameters=OfRole, summary="Remove a role")
async def remove_role(context: Context, parameters: OfRole) -> None:
    """Nobody has it any more."""
    await context.services.need(AccessControl).roles.remove(parameters.roleid)


@routes.add("GET", "/access/acl", permission=LOGGED_IN, parameters=ListAcl, summary="Who has which role where")
async def list_acl(context: Context, parameters: ListAcl) -> list[dict[str, JsonValue]]:
    """Of the paths whose permissions you may change; all with Sys.Audit on /access."""
    every = context.may("/access", "Sys.Audit", "Permissions.Modify")
    wanted = None if parameters.path is None else check_path(parameters.path)
    entries = context.services.need(AccessControl).roster.policy().acl
    return [
        {"path": e.path, "type": str(e.kind), "ugid": e.grantee, "roleid": e.role, "propagate": int(e.propagate)}
        for e in entries
        if wanted in (None, e.path) and (every or _may_delegate(context, e.path))
    ]


@routes.add("PUT", "/access/acl", permission=DELEGATE, parameters=ChangeAcl, summary="Give or take away roles")
async def change_acl(context: Context, parameters: ChangeAcl) -> None:
    """Without Permissions.Modify on the path, only roles that hold nothing that you have not got there yourself."""
    path, access = check_path(parameters.path), context.services.need(AccessControl)
    if not _may_delegate(context, path):
        raise Unauthorised(f"Permission check failed ({path}, Permissions.Modify)")
    if not context.may(path, "Permissions.Modify"):
        held = access.roster.policy().privileges(context.who.asker, path)
        for role in parameters.roles:
            more = sorted((await access.roles.get(role)) - set(held))
            if more or (parameters.propagate and not all(held.values())):
                raise Unauthorised(
                    f"Permission check failed ({path}, Permissions.Modify)",
                    why=f"role {role} holds more than you have there" if more else "yours do not hold below the path",
                )
    grantees = [(Grantee.USER, name) for name in parameters.users]
    grantees += [(Grantee.GROUP, name) for name in parameters.groups]
    grantees += [(Grantee.TOKEN, name) for name in parameters.tokens]
    change = AclChange(
        path=path, roles=parameters.roles, grantees=tuple(grantees), propagate=parameters.propagate,
        delete=parameters.delete,
    )  # fmt: skip
    await access.acl.change(change)


def _may_delegate(context: Context, path: str) -> bool:
    steps = segments_of(path)
    kind = _DELEGATES.get(steps[0]) if len(steps) > 1 else None
    return context.may(path, "Permissions.Modify", *([kind] if kind else []))
