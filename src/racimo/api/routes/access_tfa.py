"""Second factors."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from racimo.access.control import AccessControl
from racimo.access.names import check_user
from racimo.api.endpoint import LOGGED_IN, Routes, over_user
from racimo.api.parameters import Parameters
from racimo.api.routes.access import SECRET, demand_own_password
from racimo.api.routes.access_users import sees_user
from racimo.model.access import FactorKind

if TYPE_CHECKING:
    from pydantic import JsonValue

    from racimo.api.context import Context
    from racimo.model.access import SecondFactor

SEE = over_user("userid", "User.Modify", "Sys.Audit", own=True)
CHANGE = replace(over_user("userid", "User.Modify", own=True), people=True)

routes = Routes()


class OfUser(Parameters):
    """The second factors of one user."""

    userid: str


class OfFactor(OfUser):
    """One second factor."""

    id: str


class Confirmed(OfFactor):
    """A change that one's own password confirms."""

    password: Annotated[SECRET, Field(description="Your own password; root@pam needs none.")] = ""


class ChangeFactor(Confirmed):
    """Changes of a second factor."""

    description: str | None = None
    enable: bool | None = None


class NewFactor(OfUser):
    """A second factor to be added."""

    type: Literal["totp", "recovery"]
    description: str = ""
    totp: Annotated[SECRET, Field(description="The key URI: otpauth://totp/NAME?secret=BASE32.")] = ""
    value: Annotated[SECRET, Field(description="A code that the device shows for it.")] = ""
    password: Annotated[SECRET, Field(description="Your own password; root@pam needs none.")] = ""


@routes.add("GET", "/access/tfa", permission=LOGGED_IN, summary="Who has which second factors")
async def list_all(context: Context, parameters: Parameters) -> list[dict[str, JsonValue]]:
    """Your own, and those of users over whom you have User.Modify or Sys.Audit."""
    access = context.services.need(AccessControl)
    shown: list[dict[str, JsonValue]] = []
    for name, user in sorted(access.roster.policy().users.items()):
        factors = access.roster.factors(name)
        if factors and sees_user(context, user):
            shown.append({"userid": name, "entries": [_shown(factor) for factor in factors]})
    return shown


@routes.add("GET", "/access/tfa/{userid}", permission=SEE, parameters=OfUser, summary="A user's second factors")
async def list_factors(context: Context, parameters: OfUser) -> list[dict[str, JsonValue]]:
    """Never their secrets."""
    return [_shown(factor) for factor in await context.services.need(AccessControl).factors.of(parameters.userid)]


@routes.add("GET", "/access/tfa/{userid}/{id}", permission=SEE, parameters=OfFactor, summary="A second factor")
async def get_factor(context: Context, parameters: OfFactor) -> dict[str, JsonValue]:
    """Never its secret."""
    return _shown(await context.services.need(AccessControl).factors.get(parameters.userid, parameters.id))


@routes.add("POST", "/access/tfa/{userid}", permission=CHANGE, parameters=NewFactor, summary="Add a second factor")
async def add_factor(context: Context, parameters: NewFactor) -> dict[str, JsonValue]:
    """Recovery keys are in the answer, and never shown again; they replace those from before."""
    access = context.services.need(AccessControl)
    await access.users.get(check_user(parameters.userid))
    await demand_own_password(context, parameters.password, "password")
    if parameters.type == "recovery":
        factor, keys = await access.factors.add_recovery(parameters.userid, parameters.description)
        return {"id": factor.id, "recovery": list(keys)}
    factor = await access.factors.add_totp(parameters.userid, parameters.totp, parameters.value, parameters.description)
    return {"id": factor.id}


@routes.add(
    "PUT", "/access/tfa/{userid}/{id}", permission=CHANGE, parameters=ChangeFactor, summary="Change a second factor"
)
async def change_factor(context: Context, parameters: ChangeFactor) -> None:
    """Its description, and whether it counts."""
    await demand_own_password(context, parameters.password, "password")
    factors = context.services.need(AccessControl).factors
    await factors.change(parameters.userid, parameters.id, parameters.description, parameters.enable)


@routes.add(
    "DELETE", "/access/tfa/{userid}/{id}", permission=CHANGE, parameters=Confirmed, summary="Remove a second factor"
)
async def remove_factor(context: Context, parameters: Confirmed) -> None:
    """Without any, the password alone is enough."""
    await demand_own_password(context, parameters.password, "password")
    await context.services.need(AccessControl).factors.remove(parameters.userid, parameters.id)


def _shown(factor: SecondFactor) -> dict[str, JsonValue]:
    shown: dict[str, JsonValue] = {
        "id": factor.id, "type": str(factor.kind), "description": factor.description, "created": int(factor.created),
        "enable": int(factor.enable),
    }  # fmt: skip
    return {**shown, "left": len(factor.keys)} if factor.kind is FactorKind.RECOVERY else shown
