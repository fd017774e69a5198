from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from racimo.access.control import Credentials
from racimo.access.limits import FREE, KEPT, LoginLimiter, neighbourhood
from racimo.errors import NotLoggedIn
from racimo.model.access import User

from .site import PASSWORD

if TYPE_CHECKING:
    from .site import Site


async def test_the_right_password_gives_a_ticket_that_says_who_it_is(site: Site) -> None:
    await site.user()
    login = await site.log_in()
    assert site.access.identify(Credentials(ticket=login.ticket)) == ("anna@pve", "")


@pytest.mark.parametrize("user", ["anna@pve", "nobody@pve", "anna@elsewhere", "root@pam"])
async def test_a_wrong_login_says_the_same_whatever_was_wrong_and_is_answered_late(site: Site, user: str) -> None:
    await site.user()
    with pytest.raises(NotLoggedIn, match=r"^authentication failure$"):
        await site.log_in(user, "wrong")
    assert sum(site.time.waited) >= 2


async def test_a_disabled_user_cannot_log_in_and_earlier_tickets_are_no_good(site: Site) -> None:
    await site.user()
    login = await site.log_in()
    await site.access.users.change("anna@pve", lambda user: User(name=user.name, enable=False))
    await site.caught_up()
    with pytest.raises(NotLoggedIn):
        await site.log_in()
    with pytest.raises(NotLoggedIn):
        site.access.identify(Credentials(ticket=login.ticket))


async def test_a_ticket_renews_itself_as_a_password(site: Site) -> None:
    await site.user()
    first = await site.log_in()
    site.time.now += 7000
    second = await site.log_in(password=first.ticket)
    site.time.now += 7000
    assert site.access.identify(Credentials(ticket=second.ticket)).user == "anna@pve"
    with pytest.raises(NotLoggedIn):
        await site.log_in(password=first.ticket)


async def test_the_ticket_of_another_user_is_no_password(site: Site) -> None:
    await site.user()
    await site.user("ben@pve")
    login = await site.log_in()
    with pytest.raises(NotLoggedIn):
        await site.log_in("ben@pve", login.ticket)


async def test_a_new_password_ends_the_tickets_made_with_the_old_one(site: Site) -> None:
    await site.user()
    old = await site.log_in()
    site.time.now += 10
    await site.access.users.set_password("anna@pve", "another password")
    await site.caught_up()
    with pytest.raises(NotLoggedIn):
        site.access.identify(Credentials(ticket=old.ticket))
    with pytest.raises(NotLoggedIn):
        await site.log_in()
    new = await site.log_in(password="another password")
    assert site.access.identify(Credentials(ticket=new.ticket)).user == "anna@pve"


async def test_a_user_made_anew_does_not_inherit_tickets(site: Site) -> None:
    await site.user()
    old = await site.log_in()
    await site.access.users.remove("anna@pve")
    site.time.now += 10
    await site.user()
    with pytest.raises(NotLoggedIn):
        site.access.identify(Credentials(ticket=old.ticket))


async def test_wrong_logins_bar_that_user_from_that_address_even_with_the_right_password(site: Site) -> None:
    await site.user()
    for _ in range(FREE):
        with pytest.raises(NotLoggedIn):
            await site.log_in(password="wrong")
    with pytest.raises(NotLoggedIn, match="too many wrong logins"):
        await site.log_in()
    site.time.now += 6
    assert (await site.log_in()).ticket


async def test_a_user_without_a_password_cannot_log_in(site: Site) -> None:
    await site.user(password="")
    with pytest.raises(NotLoggedIn):
        await site.log_in(password=PASSWORD)


async def test_nothing_secret_stands_readable_in_the_store(site: Site) -> None:
    await site.user()
    headers = await site.token()
    stored = b"\n".join(record.value for record in (await site.store.list("/racimo/1/")).records)
    assert PASSWORD.encode() not in stored
    assert headers["Authorization"].rpartition("=")[2].encode() not in stored
    assert b"$argon2id$" in stored
    key = await site.layout.ticket_keys.get("current")
    assert key.secret.startswith("sealed:")


def test_a_network_of_ipv6_addresses_counts_as_one_sender() -> None:
    assert neighbourhood("2001:db8::1") == neighbourhood("2001:db8::ffff:1") != neighbourhood("2001:db8:0:1::1")
    assert neighbourhood("::ffff:10.0.0.9") == neighbourhood("10.0.0.9") == "10.0.0.9"
    assert neighbourhood("pid 7") == "pid 7"


def test_the_memory_of_wrong_logins_is_bounded_and_forgets_the_quietest_first() -> None:
    limiter = LoginLimiter(lambda: 0.0, free=1)
    for n in range(KEPT + 500):
        limiter.wrong(("anna@pve", f"10.{n // 65536}.{n // 256 % 256}.{n % 256}"))
    assert len(limiter) == KEPT
    assert limiter.wait(("anna@pve", "10.0.0.0")) == 0
    assert limiter.wait(("anna@pve", f"10.0.{(KEPT + 499) // 256}.{(KEPT + 499) % 256}")) > 0


def test_the_wait_doubles_and_ends_at_the_longest() -> None:
    limiter, key = LoginLimiter(lambda: 0.0), ("anna@pve", "10.0.0.9")
    waits = []
    for _ in range(40):
        limiter.wrong(key)
        waits.append(limiter.wait(key))
    assert waits[:8] == [0, 0, 0, 0, 5, 10, 20, 40]
    assert waits[-1] == 900
    limiter.right(key)
    assert limiter.wait(key) == 0
