"""Logging in, passwords, realms, and who may do what."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from racimo.access.control import AccessControl
from racimo.access.logins import Attempt
from racimo.access.names import Asker, check_user, parse_asker, realm_of
from racimo.api.endpoint import ANYBODY, LOGGED_IN, Routes, over_user, privilege
from racimo.api.inventory import Inventory
from racimo.api.parameters import Parameters
from racimo.api.routes.access_users import OfUser
from racimo.errors import BadParameter, NotFound, NotLoggedIn, Unauthorised
from racimo.model.access import ROOT_USER, Realm, RealmType

if TYPE_CHECKING:
    from pydantic import JsonValue

    from racimo.access.permissions import Policy
    from racimo.api.context import Context

SECRET = Annotated[str, Field(repr=False)]
PASSWORD = replace(
    over_user("userid", "User.Modify", own=True),
    also=(privilege("/access/realm/{realm}", "Realm.AllocateUser"),),
    people=True,
)
SEE_REALMS = privilege("/access/realm", "Realm.Allocate", "Sys.Audit")
CHANGE_REALMS = privilege("/access/realm", "Realm.Allocate")
_AREAS = {
    "vms": "VM.", "storage": "Datastore.", "access": "User.", "nodes": "Sys.", "dc": "Sys.", "sdn": "SDN.",
    "mapping": "Mapping.",
}  # fmt: skip

routes = Routes()


class Login(Parameters):
    """A login."""

    username: Annotated[str, Field(description="NAME@REALM, or NAME with realm beside it.")]
    password: Annotated[SECRET, Field(description="The password; or a ticket that is still good, for a new one.")]
    realm: Annotated[str, Field(description="The realm, where the user name lacks it.")] = ""
    otp: Annotated[SECRET, Field(description="A code by the clock, along with the password.")] = ""
    challenge: Annotated[
        SECRET, Field(alias="tfa-challenge", description="The ticket of the first step; password has the factor.")
    ] = ""
    new_format: Annotated[bool, Field(alias="new-format", description="Taken from older clients, and ignored.")] = True
    path: Annotated[str, Field(description="Check the ticket for privileges on this path, and make none.")] = ""
    privs: Annotated[tuple[str, ...], Field(description="The privileges; all are needed.")] = ()


class ChangePassword(OfUser):
    """A new password."""

    password: Annotated[SECRET, Field(description="The new password.")]
    confirmation: Annotated[
        SECRET, Field(alias="confirmation-password", description="The present password of who asks; not of root@pam.")
    ] = ""


class OfRealm(Parameters):
    """One realm."""

    realm: str


class RealmOptions(OfRealm):
    """What can be changed of a realm."""

    comment: str | None = None
    default: Annotated[bool | None, Field(description="Offer it first.")] = None


class NewRealm(RealmOptions):
    """A realm to be added."""

    type: str


class WhosePermissions(Parameters):
    """Of whom, and where."""

    userid: Annotated[str, Field(description="NAME@REALM or NAME@REALM!TOKEN; without it your own.")] = ""
    path: Annotated[str, Field(description="Only on this path.")] = ""


@routes.add("GET", "/access", permission=LOGGED_IN, summary="What there is about access")
async def index(context: Context, parameters: Parameters) -> list[JsonValue]:
    """The paths below."""
    parts = ("users", "groups", "roles", "acl", "domains", "tfa", "ticket", "password", "permissions")
    return [{"subdir": part} for part in parts]


@routes.add("GET", "/access/ticket", permission=ANYBODY, summary="Nothing; for clients that look first")
async def no_ticket(context: Context, parameters: Parameters) -> None:
    """There is nothing to read."""


@routes.add("POST", "/access/ticket", permission=ANYBODY, parameters=Login, summary="Log in")
async def log_in(context: Context, parameters: Login) -> dict[str, JsonValue]:
    """A ticket for two hours; a ticket in place of the password gives a new one."""
    if context.who.asker.token:
        raise Unauthorised("Permission check failed (/access/ticket)", why="API tokens make no tickets")
    access = context.services.need(AccessControl)
    user = parameters.username
    user = f"{user}@{parameters.realm}" if parameters.realm and not user.endswith(f"@{parameters.realm}") else user
    attempt = Attempt(
        user=user, password=parameters.password, address=context.who.address, code=parameters.otp,
        challenge=parameters.challenge,
    )  # fmt: skip
    login = await access.logins.log_in(attempt)
    if login.needs_factor:
        return {"username": user, "ticket": login.ticket, "NeedTFA": 1}
    policy = access.roster.policy()
    if parameters.path and not all(policy.allows(Asker(user), parameters.path, name) for name in parameters.privs):
        raise NotLoggedIn("authentication failure")
    return {
        "username": user, "ticket": login.ticket, "CSRFPreventionToken": login.form_token,
        "clustername": context.services.need(Inventory).datacenter().name, "cap": _abilities(policy, Asker(user)),
    }  # fmt: skip


@routes.add(
    "PUT", "/access/password", permission=PASSWORD,
    parameters=ChangePassword, summary="Change a password",
)  # fmt: skip
async def change_password(context: Context, parameters: ChangePassword) -> None:
    """Of realm pam: that of the account on the node asked. Tickets made before are no good any more."""
    user = check_user(parameters.userid)
    access = context.services.need(AccessControl)
    await access.users.get(user)
    await demand_own_password(context, parameters.confirmation, "confirmation-password")
    realm = await access.realms.get(realm_of(user))
    if realm.type is RealmType.PAM:
        await access.realms.change_account(user, parameters.password)
    else:
        await access.users.set_password(user, parameters.password)


@routes.add("GET", "/access/domains", permission=ANYBODY, summary="The realms")
async def list_realms(context: Context, parameters: Parameters) -> list[dict[str, JsonValue]]:
    """Told to anybody: who logs in chooses one."""
    return [{"realm": realm.name, **_realm(realm)} for realm in await context.services.need(AccessControl).realms.all()]


@routes.add("GET", "/access/domains/{realm}", permission=SEE_REALMS, parameters=OfRealm, summary="A realm")
async def get_realm(context: Context, parameters: OfRealm) -> dict[str, JsonValue]:
    """Its settings."""
    return _realm(await context.services.need(AccessControl).realms.get(parameters.realm))


@routes.add("POST", "/access/domains", permission=CHANGE_REALMS, parameters=NewRealm, summary="Add a realm")
async def add_realm(context: Context, parameters: NewRealm) -> None:
    """Of the types pam and pve there is one each, so none can be added."""
    if parameters.type not in list(RealmType):
        known = ", ".join(RealmType)
        raise BadParameter({"type": f"realms of type '{parameters.type[:40]}' are not known here; there are {known}"})
    realm = Realm(name=parameters.realm, type=RealmType(parameters.type), comment=parameters.comment or "")
    await context.services.need(AccessControl).realms.add(realm)


@routes.add(
    "PUT", "/access/domains/{realm}", permission=CHANGE_REALMS, parameters=RealmOptions, summary="Change a realm"
)
async def change_realm(context: Context, parameters: RealmOptions) -> None:
    """What is not given stays as it is."""

    def change(realm: Realm) -> Realm:
        comment = realm.comment if parameters.comment is None else parameters.comment
        return replace(
            realm, comment=comment, default=realm.default if parameters.default is None else parameters.default
        )

    await context.services.need(AccessControl).realms.change(parameters.realm, change)


@routes.add("DELETE", "/access/domains/{realm}", permission=CHANGE_REALMS, parameters=OfRealm, summary="Remove a realm")
async def remove_realm(context: Context, parameters: OfRealm) -> None:
    """The built-in ones stay."""
    await context.services.need(AccessControl).realms.remove(parameters.realm)


@routes.add(
    "GET", "/access/permissions", permission=LOGGED_IN, parameters=WhosePermissions, summary="Who may do what where"
)
async def permissions(context: Context, parameters: WhosePermissions) -> dict[str, JsonValue]:
    """Privileges by path, each with 1 where it holds below the path too."""
    asker = parse_asker(parameters.userid) if parameters.userid else context.who.asker
    if asker != context.who.asker and Asker(asker.user) != context.who.asker:
        context.demand("/access", "Sys.Audit")
    policy = context.services.need(AccessControl).roster.policy()
    if asker.user not in policy.users:
        raise NotFound(f"no such user ('{asker.user[:80]}')")
    if asker.token and str(asker) not in policy.tokens:
        raise NotFound(f"no such token '{asker.token[:80]}' for user '{asker.user}': it does not exist")
    paths = [parameters.path] if parameters.path else policy.paths()
    held = {path: policy.privileges(asker, path) for path in paths}
    return {path: {name: int(below) for name, below in sorted(found.items())} for path, found in held.items() if found}


async def demand_own_password(context: Context, password: str, parameter: str) -> None:
    """Raises ``BadParameter`` unless ``password`` is that of who asks: a ticket left open changes no secrets.

    Root need not; nor may a token come this far.
    """
    if context.who.user == ROOT_USER:
        return
    logins = context.services.need(AccessControl).logins
    if not password:
        raise BadParameter({parameter: "is needed: your own password"})
    if not await logins.is_password_of(context.who.user, password, context.who.address):
        raise BadParameter({parameter: "is not your password"})


def _realm(realm: Realm) -> dict[str, JsonValue]:
    shown: dict[str, JsonValue] = {"type": str(realm.type), "comment": realm.comment}
    return {**shown, "default": 1} if realm.default else shown


def _abilities(policy: Policy, asker: Asker) -> dict[str, JsonValue]:
    """What there is anywhere of each area, for clients that hide what cannot be done."""
    held: set[str] = set()
    for path in policy.paths():
        held |= set(policy.privileges(asker, path))
    shown: dict[str, JsonValue] = {}
    for area, prefix in _AREAS.items():
        shown[area] = {name: 1 for name in sorted(held) if name.startswith((prefix, "Permissions."))}
    return shown
