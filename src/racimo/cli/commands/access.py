"""``racimo access user`` and ``racimo access token``: who there is."""

from __future__ import annotations

import getpass
import sys
from typing import Annotated

import typer

from racimo.cli.answer import Json, Row, row, rows
from racimo.cli.command import command, group
from racimo.cli.session import Session, part
from racimo.cli.view import Column, Done, Facts, Table
from racimo.errors import BadParameter

app = group("access", "Who may do what: users, groups, roles, permissions, tokens and second factors.")
users = group("user", "The users. Each is NAME@REALM: pve for Racimo's own, pam for accounts of the nodes.")
tokens = group("token", "API tokens of users: for programs.")
app.add_typer(users)
app.add_typer(tokens)

PATH = "/access"

UserName = Annotated[str, typer.Argument(metavar="USER", help="NAME@REALM, such as anna@pve.")]
TokenName = Annotated[str, typer.Argument(metavar="TOKEN", help="The token's name.")]
Comment = Annotated[str | None, typer.Option("--comment", metavar="TEXT", help="A note for people.")]
Email = Annotated[str | None, typer.Option("--email", metavar="ADDRESS", help="The user's mail address.")]
First = Annotated[str | None, typer.Option("--firstname", metavar="NAME", help="The given name.")]
Last = Annotated[str | None, typer.Option("--lastname", metavar="NAME", help="The family name.")]
Groups = Annotated[str | None, typer.Option("--groups", metavar="LIST", help="The groups that the user is in.")]
Expire = Annotated[
    int | None, typer.Option("--expire", metavar="SECONDS", min=0, help="Since the epoch; 0: never.")
]  # fmt: skip
Enable = Annotated[bool | None, typer.Option("--enable/--disable", help="Whether the user may log in.")]
PrivSep = Annotated[
    bool | None,
    typer.Option("--privsep/--no-privsep", help="Permissions of its own, within those of its user; or all of those."),
]


def read_secret(prompt: str) -> str:
    """A secret, typed unseen at a terminal or read as one line from standard input; never an argument.

    Arguments can be read in the list of processes.
    """
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    first = getpass.getpass(f"{prompt}: ")
    if getpass.getpass(f"{prompt}, once more: ") != first:
        raise BadParameter({"password": "was not written the same way twice"})
    return first


def list_of(entry: Row, name: str) -> list[str]:
    """A field that holds a list of texts."""
    values = entry.fields.get(name)
    return [str(value) for value in values] if isinstance(values, list) else []


def given(**values: Json) -> dict[str, Json]:
    """What was written on the command line; the API takes booleans as numbers."""
    return {
        name: int(value) if isinstance(value, bool) else value for name, value in values.items() if value is not None
    }


_USERS = (
    Column("User", lambda user: user.text("userid")),
    Column("State", lambda user: "active" if user.flag("enable") else "disabled"),
    Column("Groups", lambda user: user.text("groups").replace(",", ", ")),
    Column("Name", lambda user: f"{user.text('firstname')} {user.text('lastname')}".strip()),
    Column("Email", lambda user: user.text("email")),
    Column("Comment", lambda user: user.text("comment")),
)
_TOKENS = (
    Column("Token", lambda token: token.text("tokenid")),
    Column("Permissions", lambda token: "its own" if token.flag("privsep") else "all of its user"),
    Column("Expires", lambda token: token.text("expire") if token.number("expire") else "never"),
    Column("Comment", lambda token: token.text("comment")),
)


@command(users, "list", example="racimo access user list", then="racimo access user add anna@pve")
async def list_users(session: Session) -> Table:
    """List the users."""
    return Table(_USERS, rows(await session.get(f"{PATH}/users", full=1)), "There is no user but root@pam.")


@command(users, "show", example="racimo access user show anna@pve")
async def show(session: Session, user: UserName) -> Facts:
    """Show one user with groups, tokens and permissions."""
    found = row(await session.get(f"{PATH}/users/{part(user)}"))
    held = row(await session.get(f"{PATH}/permissions", userid=user))
    lines = [
        ("User", user),
        ("State", "active" if found.flag("enable") else "disabled"),
        ("Groups", ", ".join(list_of(found, "groups")) or "none"),
        ("Tokens", ", ".join(found.row("tokens")) or "none"),
    ]
    lines += [(f"On {path}", ", ".join(held.row(path))) for path in held]
    return Facts(lines, {**found.fields, "userid": user, "permissions": held.fields})


@command(
    users, "add",
    example="racimo access user add anna@pve --groups staff\nracimo access user add bob@pam --comment 'Night shift'",
    then="racimo access acl add /vms --user anna@pve --role PVEVMUser",
)  # fmt: skip
async def add(
    session: Session,
    user: UserName,
    groups: Groups = None,
    email: Email = None,
    firstname: First = None,
    lastname: Last = None,
    comment: Comment = None,
    expire: Expire = None,
    enable: Enable = None,
) -> Done:
    """Add a user. One of realm pve gets a password, asked for or read from standard input."""
    secret = read_secret("Password") if user.endswith("@pve") else None
    fields = given(groups=groups, email=email, firstname=firstname, lastname=lastname, comment=comment,
                   expire=expire, enable=enable, password=secret or None)  # fmt: skip
    answer = await session.post(f"{PATH}/users", userid=user, **fields)
    return Done(f"User {user} is added.", answer, f"racimo access acl add /vms --user {user} --role PVEVMUser")


@command(users, "set", example="racimo access user set anna@pve --disable")
async def change(
    session: Session,
    user: UserName,
    groups: Groups = None,
    email: Email = None,
    firstname: First = None,
    lastname: Last = None,
    comment: Comment = None,
    expire: Expire = None,
    enable: Enable = None,
) -> Done:
    """Change a user. What is not given stays as it is; tickets of one that is disabled end at once."""
    fields = given(groups=groups, email=email, firstname=firstname, lastname=lastname, comment=comment,
                   expire=expire, enable=enable)  # fmt: skip
    if not fields:
        raise BadParameter({"--enable": "nothing to change was given"}, todo=f"racimo access user set {user} --disable")
    answer = await session.put(f"{PATH}/users/{part(user)}", **fields)
    return Done(f"User {user} is changed.", answer)


@command(users, "password", example="racimo access user password anna@pve")
async def password(session: Session, user: UserName) -> Done:
    """Give a user a new password, asked for or read from standard input. Tickets made before end."""
    answer = await session.put(f"{PATH}/password", userid=user, password=read_secret("New password"))
    return Done(f"The password of {user} is changed.", answer)


@command(users, "remove", example="racimo access user remove anna@pve", then="racimo access user list")
async def remove(session: Session, user: UserName) -> Done:
    """Remove a user with tokens, second factors and permissions."""
    answer = await session.delete(f"{PATH}/users/{part(user)}")
    return Done(f"User {user} is removed.", answer)


@command(tokens, "list", example="racimo access token list anna@pve", then="racimo access token add anna@pve ci")
async def list_tokens(session: Session, user: UserName) -> Table:
    """List a user's tokens; never their secrets."""
    found = rows(await session.get(f"{PATH}/users/{part(user)}/token"))
    return Table(_TOKENS, found, f"{user} has no token. Add one: racimo access token add {user} ci")


@command(
    tokens, "add", example="racimo access token add anna@pve ci",
    then="racimo access acl add /vms --token anna@pve!ci --role PVEAuditor",
)  # fmt: skip
async def add_token(
    session: Session,
    user: UserName,
    token: TokenName,
    privsep: PrivSep = None,
    expire: Expire = None,
    comment: Comment = None,
) -> Facts:
    """Add a token, and show its secret this once."""
    fields = given(privsep=privsep, expire=expire, comment=comment)
    made = row(await session.post(f"{PATH}/users/{part(user)}/token/{part(token)}", **fields))
    return Facts([("Token", made.text("full-tokenid")), ("Secret", made.text("value"))], made.fields)


@command(tokens, "set", example="racimo access token set anna@pve ci --regenerate")
async def change_token(
    session: Session,
    user: UserName,
    token: TokenName,
    privsep: PrivSep = None,
    expire: Expire = None,
    comment: Comment = None,
    regenerate: Annotated[bool, typer.Option("--regenerate", help="A new secret, shown this once.")] = False,
) -> Facts:
    """Change a token. What is not given stays as it is."""
    fields = given(privsep=privsep, expire=expire, comment=comment, regenerate=regenerate or None)
    made = row(await session.put(f"{PATH}/users/{part(user)}/token/{part(token)}", **fields))
    lines = [("Token", f"{user}!{token}")]
    return Facts([*lines, ("Secret", made.text("value"))] if regenerate else lines, made.fields)


@command(tokens, "remove", example="racimo access token remove anna@pve ci")
async def remove_token(session: Session, user: UserName, token: TokenName) -> Done:
    """Remove a token with its permissions."""
    answer = await session.delete(f"{PATH}/users/{part(user)}/token/{part(token)}")
    return Done(f"Token {user}!{token} is removed.", answer)
