"""Users and their API tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from racimo.access.control import AccessControl
from racimo.access.names import check_user, realm_of
from racimo.api.endpoint import LOGGED_IN, Routes, over_user, privilege
from racimo.api.parameters import Parameters
from racimo.errors import BadParameter
from racimo.model.access import ROOT_USER, Token, User

if TYPE_CHECKING:
    from pydantic import JsonValue

    from racimo.api.context import Context

CREATE = replace(
    privilege("/access/groups/{groups}", "User.Modify"),
    also=(privilege("/access/realm/{realm}", "Realm.AllocateUser"),),
)
MODIFY = over_user("userid", "User.Modify")
REMOVE = replace(MODIFY, also=(privilege("/access/realm/{realm}", "Realm.AllocateUser"),))
SEE = over_user("userid", "User.Modify", "Sys.Audit", own=True)
OWN = over_user("userid", "User.Modify", own=True)
_TEXTS = ("comment", "email", "firstname", "lastname", "keys")

routes = Routes()


def realm_of_user(parameters: OfUser) -> str:
    """The realm of the user that a call is about."""
    return realm_of(parameters.userid)


class ListUsers(Parameters):
    """Which users."""

    enabled: Annotated[bool | None, Field(description="Only enabled, or only disabled ones.")] = None
    full: Annotated[bool, Field(description="With their groups and tokens.")] = False


class OfUser(Parameters):
    """One user."""

    derived: ClassVar[Mapping[str, Callable[[Any], object]]] = {"realm": realm_of_user}
    userid: Annotated[str, Field(description="NAME@REALM.")]


class UserOptions(OfUser):
    """What can be changed of a user."""

    comment: str | None = None
    email: str | None = None
    enable: Annotated[bool | None, Field(description="Whether the user may log in.")] = None
    expire: Annotated[int | None, Field(ge=0, description="In seconds since the epoch; 0: never.")] = None
    firstname: str | None = None
    lastname: str | None = None
    keys: Annotated[str | None, Field(description="Kept for clients; Racimo does not look at it.")] = None
    groups: Annotated[tuple[str, ...] | None, Field(description="The groups that the user is in.")] = None


class NewUser(UserOptions):
    """A user to be made."""

    password: Annotated[str, Field(repr=False, description="For the realm pve alone.")] = ""


class ChangeUser(UserOptions):
    """Changes of a user."""

    append: Annotated[bool, Field(description="Add the groups instead of replacing them.")] = False


class OfToken(OfUser):
    """One token."""

    tokenid: str


class TokenOptions(OfToken):
    """What can be set of a token."""

    comment: str | None = None
    expire: Annotated[int | None, Field(ge=0, description="In seconds since the epoch; 0: never.")] = None
    privsep: Annotated[
        bool | None, Field(description="Whether it has permissions of its own, within those of its user.")
    ] = None


class ChangeToken(TokenOptions):
    """Changes of a token."""

    regenerate: Annotated[bool, Field(description="Make a new secret; the old one is no good any more.")] = False


@routes.add("GET", "/access/users", permission=LOGGED_IN, parameters=ListUsers, summary="The users")
async def list_users(context: Context, parameters: ListUsers) -> list[dict[str, JsonValue]]:
    """Yourself, and those over whom you have User.Modify or Sys.Audit."""
    policy = context.services.need(AccessControl).roster.policy()
    shown: list[dict[str, JsonValue]] = []
    for _, user in sorted(policy.users.items()):
        if parameters.enabled not in (None, user.enable) or not sees_user(context, user):
            continue
        entry: dict[str, JsonValue] = {"userid": user.name, "realm-type": realm_of(user.name), **_user(user)}
        if parameters.full:
            tokens = [token for token in policy.tokens.values() if token.user == user.name]
            entry |= {"groups": ",".join(user.groups)}
            entry |= {"tokens": [{"tokenid": token.name, **_token(token)} for token in tokens]}
        shown.append(entry)
    return shown


@routes.add("POST", "/access/users", permission=CREATE, parameters=NewUser, summary="Make a user")
async def create_user(context: Context, parameters: NewUser) -> None:
    """Without a password nobody can log in as the user; set one later."""
    user = _changed(User(name=check_user(parameters.userid)), parameters, append=False)
    await context.services.need(AccessControl).users.create(user, parameters.password)


@routes.add("GET", "/access/users/{userid}", permission=SEE, parameters=OfUser, summary="A user")
async def get_user(context: Context, parameters: OfUser) -> dict[str, JsonValue]:
    """With groups, and tokens by name."""
    access = context.services.need(AccessControl)
    user = await access.users.get(parameters.userid)
    tokens = await access.tokens.of(user.name)
    return {**_user(user), "groups": list(user.groups), "tokens": {token.name: _token(token) for token in tokens}}


@routes.add("PUT", "/access/users/{userid}", permission=MODIFY, parameters=ChangeUser, summary="Change a user")
async def change_user(context: Context, parameters: ChangeUser) -> None:
    """What is not given stays as it is. Groups that come or go take User.Modify over each."""
    users = context.services.need(AccessControl).users
    user = await users.get(parameters.userid)
    for group in set(_changed(user, parameters, append=parameters.append).groups) ^ set(user.groups):
        context.demand(f"/access/groups/{group}", "User.Modify")
    await users.change(user.name, lambda old: _changed(old, parameters, append=parameters.append))


@routes.add("DELETE", "/access/users/{userid}", permission=REMOVE, parameters=OfUser, summary="Remove a user")
async def remove_user(context: Context, parameters: OfUser) -> None:
    """With its tokens, second factors and permissions."""
    await context.services.need(AccessControl).users.remove(check_user(parameters.userid))


@routes.add("GET", "/access/users/{userid}/token", permission=SEE, parameters=OfUser, summary="A user's tokens")
async def list_tokens(context: Context, parameters: OfUser) -> list[dict[str, JsonValue]]:
    """Never their secrets."""
    tokens = await context.services.need(AccessControl).tokens.of(check_user(parameters.userid))
    return [{"tokenid": token.name, **_token(token)} for token in tokens]


@routes.add("GET", "/access/users/{userid}/token/{tokenid}", permission=SEE, parameters=OfToken, summary="A token")
async def get_token(context: Context, parameters: OfToken) -> dict[str, JsonValue]:
    """Never its secret."""
    tokens = context.services.need(AccessControl).tokens
    return _token(await tokens.get(check_user(parameters.userid), parameters.tokenid))


@routes.add(
    "POST", "/access/users/{userid}/token/{tokenid}", permission=OWN, parameters=TokenOptions, summary="Make a token"
)
async def create_token(context: Context, parameters: TokenOptions) -> dict[str, JsonValue]:
    """The answer has its secret, which is never shown again."""
    _for_root_alone(context, parameters.userid)
    fresh = Token(user=check_user(parameters.userid), name=parameters.tokenid)
    token = _changed_token(fresh, parameters)
    secret = await context.services.need(AccessControl).tokens.create(token)
    return {"full-tokenid": token.id, "info": _token(token), "value": secret}


@routes.add(
    "PUT", "/access/users/{userid}/token/{tokenid}", permission=OWN, parameters=ChangeToken, summary="Change a token"
)
async def change_token(context: Context, parameters: ChangeToken) -> dict[str, JsonValue]:
    """What is not given stays as it is."""
    tokens = context.services.need(AccessControl).tokens
    token, secret = await tokens.change(
        check_user(parameters.userid),
        parameters.tokenid,
        lambda old: _changed_token(old, parameters),
        regenerate=parameters.regenerate,
    )
    shown = _token(token)
    return {**shown, "full-tokenid": token.id, "info": _token(token), "value": secret} if secret else shown


@routes.add(
    "DELETE", "/access/users/{userid}/token/{tokenid}", permission=OWN, parameters=OfToken, summary="Remove a token"
)
async def remove_token(context: Context, parameters: OfToken) -> None:
    """With its permissions."""
    await context.services.need(AccessControl).tokens.remove(check_user(parameters.userid), parameters.tokenid)


def sees_user(context: Context, user: User) -> bool:
    """Whether who asks is the user, or has User.Modify or Sys.Audit over the user."""
    if context.who.user == user.name:
        return True
    paths = ["/access/groups", *(f"/access/groups/{group}" for group in user.groups)]
    return any(context.may(path, "User.Modify", "Sys.Audit") for path in paths)


def _for_root_alone(context: Context, user: str) -> None:
    if user == ROOT_USER and context.who.user != ROOT_USER:
        raise BadParameter({"userid": f"tokens of {ROOT_USER} are made by {ROOT_USER} alone"})


def _user(user: User) -> dict[str, JsonValue]:
    shown: dict[str, JsonValue] = {"enable": int(user.enable), "expire": user.expire}
    return {**shown, **{name: getattr(user, name) for name in _TEXTS if getattr(user, name)}}


def _changed(user: User, parameters: UserOptions, *, append: bool) -> User:
    given = {name: getattr(parameters, name) for name in (*_TEXTS, "enable", "expire")}
    new = replace(user, **{name: value for name, value in given.items() if value is not None})
    if parameters.groups is None:
        return new
    groups = (*user.groups, *parameters.groups) if append else parameters.groups
    return replace(new, groups=tuple(sorted(set(groups))))


def _token(token: Token) -> dict[str, JsonValue]:
    shown: dict[str, JsonValue] = {"privsep": int(token.privsep), "expire": token.expire}
    return {**shown, "comment": token.comment} if token.comment else shown


def _changed_token(token: Token, parameters: TokenOptions) -> Token:
    given = {"comment": parameters.comment, "expire": parameters.expire, "privsep": parameters.privsep}
    return replace(token, **{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
