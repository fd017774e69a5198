"""``racimo access group``, ``role`` and ``acl``: who may do what."""

from __future__ import annotations

from typing import Annotated

import typer

from racimo.cli.answer import Row, rows
from racimo.cli.command import command, group
from racimo.cli.commands.access import PATH, Comment, given
from racimo.cli.commands.access import app as access_app
from racimo.cli.session import Session, part
from racimo.cli.view import Column, Done, Table

app = group("acl", "Who has which role where.")
groups = group("group", "Groups of users.")
roles = group("role", "Roles: sets of privileges.")
for each in (groups, roles, app):
    access_app.add_typer(each)

GroupName = Annotated[str, typer.Argument(metavar="GROUP", help="The group's name.")]
RoleName = Annotated[str, typer.Argument(metavar="ROLE", help="The role's name.")]
Privileges = Annotated[str, typer.Argument(metavar="LIST", help="Privileges, such as VM.Audit,VM.PowerMgmt.")]
AclPath = Annotated[str, typer.Argument(metavar="PATH", help="Such as / or /vms/100, /storage/local, /pool/lab.")]
Role = Annotated[str, typer.Option("--role", metavar="LIST", help="The roles.")]
ToUser = Annotated[str | None, typer.Option("--user", metavar="LIST", help="Users.")]
ToGroup = Annotated[str | None, typer.Option("--group", metavar="LIST", help="Groups.")]
ToToken = Annotated[str | None, typer.Option("--token", metavar="LIST", help="Tokens, as anna@pve!ci.")]

_GROUPS = (
    Column("Group", lambda entry: entry.text("groupid")),
    Column("Members", lambda entry: entry.text("users").replace(",", ", ")),
    Column("Comment", lambda entry: entry.text("comment")),
)
_ROLES = (
    Column("Role", lambda role: role.text("roleid")),
    Column("Built in", lambda role: "yes" if role.flag("special") else "no"),
    Column("Privileges", lambda role: role.text("privs").replace(",", ", ")),
)
_ACL = (
    Column("Path", lambda entry: entry.text("path")),
    Column("Who", lambda entry: f"{entry.text('type')} {entry.text('ugid')}"),
    Column("Role", lambda entry: entry.text("roleid")),
    Column("Below too", lambda entry: "yes" if entry.flag("propagate") else "no"),
)


def _by_path(entry: Row) -> tuple[str, str]:
    return entry.text("path"), entry.text("ugid")


@command(groups, "list", example="racimo access group list", then="racimo access group add staff")
async def list_groups(session: Session) -> Table:
    """List the groups and their members."""
    empty = "There is no group. Add one: racimo access group add staff"
    return Table(_GROUPS, rows(await session.get(f"{PATH}/groups")), empty)


@command(
    groups, "add", example="racimo access group add staff --comment 'All of us'",
    then="racimo access user set anna@pve --groups staff",
)  # fmt: skip
async def add_group(session: Session, name: GroupName, comment: Comment = None) -> Done:
    """Add a group. Users are put into it by changing them."""
    answer = await session.post(f"{PATH}/groups", groupid=name, **given(comment=comment))
    return Done(f"Group {name} is added.", answer, f"racimo access user set USER --groups {name}")


@command(groups, "remove", example="racimo access group remove staff")
async def remove_group(session: Session, name: GroupName) -> Done:
    """Remove a group with its permissions. Its members stay."""
    answer = await session.delete(f"{PATH}/groups/{part(name)}")
    return Done(f"Group {name} is removed; its members stay.", answer)


@command(roles, "list", example="racimo access role list", then="racimo access role privileges")
async def list_roles(session: Session) -> Table:
    """List the roles, the built-in ones too."""
    return Table(_ROLES, rows(await session.get(f"{PATH}/roles")), "There is no role.")


@command(roles, "privileges", example="racimo access role privileges")
async def list_privileges(session: Session) -> Table:
    """List the privileges, and what each is for."""
    columns = (
        Column("Privilege", lambda entry: entry.text("privilege")),
        Column("Lets one", lambda entry: entry.text("description")),
    )
    return Table(columns, rows(await session.get("/racimo/access/privileges")), "There is no privilege.")


@command(roles, "add", example="racimo access role add Operator VM.Audit,VM.PowerMgmt,VM.Console")
async def add_role(session: Session, name: RoleName, privileges: Privileges) -> Done:
    """Add a role."""
    answer = await session.post(f"{PATH}/roles", roleid=name, privs=privileges)
    return Done(f"Role {name} is added.", answer, f"racimo access acl add /vms --user USER --role {name}")


@command(roles, "set", example="racimo access role set Operator VM.Migrate --append")
async def change_role(
    session: Session,
    name: RoleName,
    privileges: Privileges,
    append: Annotated[bool, typer.Option("--append", help="Add to the privileges instead of replacing them.")] = False,
) -> Done:
    """Change a role, for all who have it."""
    answer = await session.put(f"{PATH}/roles/{part(name)}", privs=privileges, append=int(append))
    return Done(f"Role {name} is changed.", answer)


@command(roles, "remove", example="racimo access role remove Operator")
async def remove_role(session: Session, name: RoleName) -> Done:
    """Remove a role. Nobody has it any more."""
    answer = await session.delete(f"{PATH}/roles/{part(name)}")
    return Done(f"Role {name} is removed.", answer)


@command(
    app, "list", example="racimo access acl list", then="racimo access acl add /vms --group staff --role PVEVMUser"
)
async def list_acl(session: Session) -> Table:
    """List who has which role where."""
    empty = "Nobody but root@pam may do anything. Add: racimo access acl add /vms --user USER --role PVEVMUser"
    return Table(_ACL, sorted(rows(await session.get(f"{PATH}/acl")), key=_by_path), empty)


@command(
    app, "add",
    example="racimo access acl add /vms/100 --user anna@pve --role PVEVMUser\n"
    "racimo access acl add / --token anna@pve!ci --role PVEAuditor",
    then="racimo access user show anna@pve",
)  # fmt: skip
async def add_acl(
    session: Session,
    path: AclPath,
    role: Role,
    user: ToUser = None,
    group_name: ToGroup = None,
    token: ToToken = None,
    propagate: Annotated[
        bool, typer.Option("--propagate/--no-propagate", help="Below the path too, or there alone.")
    ] = True,
) -> Done:
    """Give roles on a path. What is said further down replaces what is said above."""
    fields = given(users=user, groups=group_name, tokens=token, propagate=propagate)
    answer = await session.put(f"{PATH}/acl", path=path, roles=role, **fields)
    return Done(f"{role} is given on {path}.", answer, "racimo access acl list")


@command(app, "remove", example="racimo access acl remove /vms/100 --user anna@pve --role PVEVMUser")
async def remove_acl(
    session: Session,
    path: AclPath,
    role: Role,
    user: ToUser = None,
    group_name: ToGroup = None,
    token: ToToken = None,
) -> Done:
    """Take roles away again."""
    fields = given(users=user, groups=group_name, tokens=token, delete=1)
    answer = await session.put(f"{PATH}/acl", path=path, roles=role, **fields)
    return Done(f"{role} is taken away on {path}.", answer, "racimo access acl list")
