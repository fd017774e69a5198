"""``racimo access realm`` and ``racimo access tfa``: how users prove who they are."""

from __future__ import annotations

import base64
import secrets
import sys
from typing import Annotated
from urllib.parse import quote

import typer

from racimo.cli.answer import Json, Row, row, rows
from racimo.cli.command import command, group
from racimo.cli.commands.access import PATH, Comment, UserName, given, list_of
from racimo.cli.commands.access import app as access_app
from racimo.cli.session import Session, part
from racimo.cli.view import Column, Done, Lines, Table
from racimo.errors import BadParameter

app = group("tfa", "Second factors: codes by the clock, and recovery keys.")
realms = group("realm", "Where users come from.")
access_app.add_typer(realms)
access_app.add_typer(app)

SECRET_BYTES = 20
"""Of a new secret for codes: what RFC 4226 recommends."""

FactorId = Annotated[str, typer.Argument(metavar="ID", help="The factor, as racimo access tfa list shows it.")]
RealmName = Annotated[str, typer.Argument(metavar="REALM", help="pam or pve.")]
Description = Annotated[str | None, typer.Option("--description", metavar="TEXT", help="Such as: my phone.")]

_REALMS = (
    Column("Realm", lambda realm: realm.text("realm")),
    Column("Type", lambda realm: realm.text("type")),
    Column("Default", lambda realm: "yes" if realm.flag("default") else "no"),
    Column("Comment", lambda realm: realm.text("comment")),
)
_FACTORS = (
    Column("User", lambda factor: factor.text("userid")),
    Column("Id", lambda factor: factor.text("id")),
    Column("Type", lambda factor: factor.text("type")),
    Column("State", lambda factor: "active" if factor.flag("enable") else "disabled"),
    Column("Keys left", lambda factor: factor.text("left"), number=True),
    Column("Description", lambda factor: factor.text("description")),
)


@command(realms, "list", example="racimo access realm list")
async def list_realms(session: Session) -> Table:
    """List the realms."""
    return Table(_REALMS, rows(await session.get(f"{PATH}/domains")), "There is no realm.")


@command(realms, "set", example="racimo access realm set pve --default")
async def change_realm(
    session: Session,
    realm: RealmName,
    comment: Comment = None,
    default: Annotated[bool | None, typer.Option("--default/--no-default", help="Offer it first.")] = None,
) -> Done:
    """Change a realm. What is not given stays as it is."""
    fields = given(comment=comment, default=default)
    if not fields:
        raise BadParameter(
            {"--default": "nothing to change was given"}, todo=f"racimo access realm set {realm} --default"
        )
    answer = await session.put(f"{PATH}/domains/{part(realm)}", **fields)
    return Done(f"Realm {realm} is changed.", answer)


@command(app, "list", example="racimo access tfa list", then="racimo access tfa add-recovery anna@pve")
async def list_factors(session: Session) -> Table:
    """List who has which second factors."""
    found = [
        Row({"userid": user.text("userid"), **entry.fields})
        for user in rows(await session.get(f"{PATH}/tfa"))
        for entry in rows(user.fields.get("entries"))
    ]
    return Table(_FACTORS, found, "Nobody has a second factor. Add one: racimo access tfa add-totp USER")


@command(app, "add-totp", example="racimo access tfa add-totp anna@pve --description phone")
async def add_totp(session: Session, user: UserName, description: Description = None) -> Done:
    """Add codes by the clock: shows a new key for the user's device, and asks for a code that it makes of it.

    Without a terminal, key URI and code are two lines of standard input.
    """
    uri, code = _proof(user)
    fields = given(description=description)
    made = row(await session.post(f"{PATH}/tfa/{part(user)}", type="totp", totp=uri, value=code, **fields))
    return Done(f"{user} needs a code from now on.", made.fields, f"racimo access tfa add-recovery {user}")


@command(app, "add-recovery", example="racimo access tfa add-recovery anna@pve")
async def add_recovery(session: Session, user: UserName, description: Description = None) -> Lines:
    """Make recovery keys, each good once, and show them this once. Those from before are no good any more."""
    fields = given(description=description)
    made = row(await session.post(f"{PATH}/tfa/{part(user)}", type="recovery", **fields))
    keys = list_of(made, "recovery")
    value: Json = made.fields
    return Lines([f"{number}: {key}" for number, key in enumerate(keys)], value)


@command(app, "set", example="racimo access tfa set anna@pve recovery --disable")
async def change_factor(
    session: Session,
    user: UserName,
    factor: FactorId,
    description: Description = None,
    enable: Annotated[bool | None, typer.Option("--enable/--disable", help="Whether it counts.")] = None,
) -> Done:
    """Change a second factor."""
    fields = given(description=description, enable=enable)
    answer = await session.put(f"{PATH}/tfa/{part(user)}/{part(factor)}", **fields)
    return Done(f"The second factor {factor} of {user} is changed.", answer)


@command(app, "remove", example="racimo access tfa remove anna@pve recovery", then="racimo access tfa list")
async def remove_factor(session: Session, user: UserName, factor: FactorId) -> Done:
    """Remove a second factor: for somebody who has lost the device."""
    answer = await session.delete(f"{PATH}/tfa/{part(user)}/{part(factor)}")
    return Done(f"The second factor {factor} of {user} is removed.", answer)


def _proof(user: str) -> tuple[str, str]:
    """The key URI, and a code that shows that the device has it."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().strip(), sys.stdin.readline().strip()
    secret = base64.b32encode(secrets.token_bytes(SECRET_BYTES)).decode()
    uri = f"otpauth://totp/Racimo:{quote(user)}?secret={secret}&issuer=Racimo"
    print(f"Add this key to the device: {uri}", file=sys.stderr, flush=True)  # noqa: T201
    return uri, input("Code that it shows: ").strip()
