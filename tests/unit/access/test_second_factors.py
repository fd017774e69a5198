from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pyotp
import pytest

from racimo.access.limits import FREE
from racimo.errors import BadParameter, NotLoggedIn

from .site import PASSWORD

if TYPE_CHECKING:
    from .site import Site

SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
URI = f"otpauth://totp/Racimo:anna%40pve?secret={SECRET}&issuer=Racimo"


def code(site: Site, ahead: int = 0) -> str:
    return pyotp.TOTP(SECRET).at(int(site.time()) + ahead)


async def with_codes(site: Site) -> None:
    await site.user()
    await site.access.factors.add_totp("anna@pve", URI, code(site), "phone")
    await site.caught_up()
    site.time.now += 60


async def test_the_password_alone_gives_a_ticket_for_the_second_step_only(site: Site) -> None:
    await with_codes(site)
    first = await site.log_in()
    assert first.needs_factor
    assert json.loads(unquote(first.ticket.split(":")[1]).removeprefix("!tfa!")) == {"totp": True}
    cookie = {"Cookie": f"PVEAuthCookie={first.ticket}"}
    assert (await site.ask("GET", "/version", cookie)).status == 401
    with pytest.raises(NotLoggedIn):
        await site.log_in(password=first.ticket)
    second = await site.log_in(password=f"totp:{code(site)}", challenge=first.ticket)
    assert (await site.ask("GET", "/version", {"Cookie": f"PVEAuthCookie={second.ticket}"})).status == 200


async def test_password_and_code_in_one_step(site: Site) -> None:
    await with_codes(site)
    assert not (await site.log_in(code=code(site))).needs_factor
    with pytest.raises(NotLoggedIn):
        await site.log_in(code="000000")


async def test_a_code_is_taken_once(site: Site) -> None:
    await with_codes(site)
    used = code(site)
    await site.log_in(code=used)
    with pytest.raises(NotLoggedIn):
        await site.log_in(code=used)
    with pytest.raises(NotLoggedIn):
        await site.log_in(code=code(site, -30))
    site.time.now += 30
    assert (await site.log_in(code=code(site))).ticket


async def test_of_two_logins_with_one_code_at_the_same_time_one_succeeds(site: Site) -> None:
    await with_codes(site)
    ends = await asyncio.gather(*(site.log_in(code=code(site)) for _ in range(3)), return_exceptions=True)
    assert sum(isinstance(end, NotLoggedIn) for end in ends) == 2


async def test_a_code_of_a_clock_that_is_half_a_minute_wrong_is_taken_and_one_much_later_is_not(site: Site) -> None:
    await with_codes(site)
    with pytest.raises(NotLoggedIn):
        await site.log_in(code=code(site, 90))
    assert (await site.log_in(code=code(site, 30))).ticket


async def test_wrong_codes_bar_further_ones_from_whatever_address(site: Site) -> None:
    await with_codes(site)
    for _ in range(FREE):
        site.time.now += 1000
        site.access.logins.limiter.right(("anna@pve", "10.0.0.9"))
        with pytest.raises(NotLoggedIn):
            await site.log_in(code="000000")
    site.access.logins.limiter.right(("anna@pve", "10.0.0.9"))
    with pytest.raises(NotLoggedIn):
        await site.log_in(code=code(site))


async def test_a_recovery_key_is_good_once(site: Site) -> None:
    await with_codes(site)
    _, keys = await site.access.factors.add_recovery("anna@pve", "")
    assert len(keys) == 10
    first = await site.log_in()
    assert (await site.log_in(password=f"recovery:{keys[0]}", challenge=first.ticket)).form_token
    with pytest.raises(NotLoggedIn):
        await site.log_in(password=f"recovery:{keys[0]}", challenge=first.ticket)
    assert (await site.log_in(password=f"recovery:{keys[9].upper()}", challenge=first.ticket)).form_token


async def test_a_challenge_is_of_one_user_and_needs_a_factor(site: Site) -> None:
    await with_codes(site)
    await site.user("ben@pve")
    first = await site.log_in()
    for user, answer in (("ben@pve", f"totp:{code(site)}"), ("anna@pve", PASSWORD), ("anna@pve", "webauthn:x")):
        with pytest.raises(NotLoggedIn):
            await site.log_in(user, answer, challenge=first.ticket)


async def test_a_disabled_factor_is_not_asked_for(site: Site) -> None:
    await with_codes(site)
    (factor,) = await site.access.factors.of("anna@pve")
    await site.access.factors.change("anna@pve", factor.id, None, enable=False)
    assert not (await site.log_in()).needs_factor


async def test_the_secret_and_the_keys_are_nowhere_in_the_store(site: Site) -> None:
    await with_codes(site)
    _, keys = await site.access.factors.add_recovery("anna@pve", "")
    stored = b"\n".join(record.value for record in (await site.store.list("/racimo/1/")).records)
    assert SECRET.encode() not in stored
    assert not any(key.encode() in stored for key in keys)


@pytest.mark.parametrize(
    "uri",
    ["", "otpauth://hotp/x?secret=JBSWY3DPEHPK3PXP&counter=1", "otpauth://totp/x?secret=AAAA", "http://x",
     "otpauth://totp/x?secret=JBSWY3DPEHPK3PXP&period=1", "otpauth://totp/x"],
)  # fmt: skip
async def test_a_key_uri_that_is_none_or_weak_is_refused(site: Site, uri: str) -> None:
    await site.user()
    with pytest.raises(BadParameter, match="totp"):
        await site.access.factors.add_totp("anna@pve", uri, "000000", "")


async def test_a_factor_is_added_only_with_a_right_code_and_ones_own_password(site: Site) -> None:
    await site.user()
    headers, path = await site.ticket(), "/access/tfa/anna@pve"
    form = {"type": "totp", "totp": URI, "value": code(site), "password": PASSWORD}
    assert (await site.ask("POST", path, headers, {**form, "value": "000000"})).status == 400
    assert (await site.ask("POST", path, headers, {**form, "password": "wrong"})).body["errors"] == {
        "password": "is not your password"
    }
    assert (await site.ask("POST", path, headers, {**form, "password": ""})).status == 400
    made = await site.ask("POST", path, headers, form)
    assert made.status == 200
    assert [entry["id"] for entry in (await site.ask("GET", path, headers)).data] == [made.data["id"]]
    removed = await site.ask("DELETE", f"{path}/{made.data['id']}", headers, {"password": PASSWORD})
    assert removed.status == 200
    assert not (await site.log_in()).needs_factor
