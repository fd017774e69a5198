"""Second factors: codes by the clock (RFC 6238), each taken once, and recovery keys, each good once."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING

from racimo.errors import BadParameter, Conflict, NotFound
from racimo.model.access import FactorKind, SecondFactor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pyotp

    from racimo.store.layout import Layout
    from racimo.store.sealing import Sealing

RECOVERY_KEYS = 10
_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"
"""Without letters that look like digits."""
AROUND = 1
"""Steps that a clock may be wrong by, either way."""
MAX_FACTORS = 20
MAX_URI = 1000


class Factors:
    """The second factors of users. ``wall`` gives seconds since the epoch."""

    def __init__(self, layout: Layout, sealing: Sealing, wall: Callable[[], float]) -> None:
        self._layout, self._sealing, self._wall = layout, sealing, wall

    async def of(self, user: str) -> list[SecondFactor]:
        """All of a user's, read from the store itself: a copy might not know yet that a code was taken."""
        prefix = f"{user}/"
        return [
            held.record for key, held in (await self._layout.second_factors.all()).items() if key.startswith(prefix)
        ]

    async def add_totp(self, user: str, uri: str, code: str, description: str) -> SecondFactor:
        """A factor of codes, for which ``code`` proves that the user's device has it. Raises ``BadParameter``."""
        totp, now = parse_uri(uri), self._wall()
        step = matching_step(totp, code, now, after=0)
        if step is None:
            raise BadParameter({"value": "the code is not right; see that the device's clock is"})
        return await self._add(
            SecondFactor(
                user=user, id=secrets.token_hex(8), kind=FactorKind.TOTP, description=description, created=now,
                secret=uri, last_step=step,
            )
        )  # fmt: skip

    async def add_recovery(self, user: str, description: str) -> tuple[SecondFactor, tuple[str, ...]]:
        """Recovery keys, to be shown once: the store has their hashes alone. Those from before are no good any more."""
        keys = tuple("-".join(_word() for _ in range(4)) for _ in range(RECOVERY_KEYS))
        factor = SecondFactor(
            user=user, id="recovery", kind=FactorKind.RECOVERY, description=description, created=self._wall(),
            keys={str(n): _digest(key) for n, key in enumerate(keys)},
        )  # fmt: skip
        if await self._layout.second_factors.find(factor.key) is not None:
            await self._layout.second_factors.update(factor.key, lambda _: factor)
            return factor, keys
        return await self._add(factor), keys

    async def change(self, user: str, factor_id: str, description: str | None, enable: bool | None) -> None:
        """Raises ``NotFound``."""

        def changed(factor: SecondFactor) -> SecondFactor:
            return replace(
                factor,
                description=factor.description if description is None else description,
                enable=factor.enable if enable is None else enable,
            )

        await self.get(user, factor_id)
        await self._layout.second_factors.update(f"{user}/{factor_id}", changed)

    async def get(self, user: str, factor_id: str) -> SecondFactor:
        """Raises ``NotFound``."""
        found = next((factor for factor in await self.of(user) if factor.id == factor_id), None)
        if found is None:
            raise NotFound(f"no such TFA entry '{factor_id[:80]}'", why=f"{user} has none of that id")
        return found

    async def remove(self, user: str, factor_id: str) -> None:
        """Raises ``NotFound``."""
        await self.get(user, factor_id)
        await self._layout.second_factors.remove(f"{user}/{factor_id}")

    async def take(self, factors: Sequence[SecondFactor], kind: str, value: str) -> bool:
        """Whether ``value`` is right for one of ``factors`` of that kind; it is used up by this."""
        for factor in factors:
            if factor.kind == kind and factor.enable:
                used = self._used(factor, value.strip())
                if used is not None and await self._use_up(factor, used):
                    return True
        return False

    def _used(self, factor: SecondFactor, value: str) -> SecondFactor | None:
        """The factor as it stands when ``value`` is used up; None when it is not right."""
        if factor.kind is FactorKind.TOTP:
            opened = self._sealing.open_record(self._layout.second_factors.key(factor.key), factor)
            step = matching_step(parse_uri(opened.secret), value, self._wall(), after=factor.last_step)
            return None if step is None else replace(factor, last_step=step)
        digest = _digest(value)
        number = next((n for n, key in factor.keys.items() if hmac.compare_digest(key, digest)), None)
        if number is None:
            return None
        return replace(factor, keys={n: key for n, key in factor.keys.items() if n != number})

    async def _use_up(self, before: SecondFactor, after: SecondFactor) -> bool:
        """Write it, if nobody used it meanwhile: of two logins with one code, one alone succeeds."""
        collection = self._layout.second_factors
        held = await collection.find(before.key)
        if held is None or held.record != before:
            return False
        return await self._layout.store.txn([held.compare], [collection.put(before.key, after, held)]) is not None

    async def _add(self, factor: SecondFactor) -> SecondFactor:
        if len(await self.of(factor.user)) >= MAX_FACTORS:
            raise Conflict(f"{factor.user} has {MAX_FACTORS} second factors already", todo="Remove one first")
        collection = self._layout.second_factors
        await collection.create(factor.key, self._sealing.seal_record(collection.key(factor.key), factor))
        return factor


def kinds(factors: Sequence[SecondFactor]) -> str:
    """What a client is told of them, as JSON in the Proxmox VE API's form."""
    told: dict[str, object] = {}
    if any(factor.kind is FactorKind.TOTP for factor in factors):
        told["totp"] = True
    for factor in factors:
        if factor.kind is FactorKind.RECOVERY:
            told["recovery"] = "available" if len(factor.keys) > 3 else "low" if factor.keys else "unavailable"
    return json.dumps(told, separators=(",", ":"))


def parse_uri(uri: str) -> pyotp.TOTP:
    """A key URI as authenticator apps read it. Raises ``BadParameter``."""
    import pyotp

    try:
        totp = pyotp.parse_uri(uri[:MAX_URI])
        good = isinstance(totp, pyotp.TOTP) and 15 <= totp.interval <= 120 and len(totp.byte_secret()) >= 10
    except (ValueError, TypeError):
        good = False
    if not good:
        raise BadParameter({"totp": "is no key URI; write otpauth://totp/NAME?secret=BASE32, with a secret of 80 bits"})
    assert isinstance(totp, pyotp.TOTP)  # noqa: S101 - looked at above
    return totp


def matching_step(totp: pyotp.TOTP, code: str, now: float, *, after: int) -> int | None:
    """The time step of which ``code`` is, around now and later than the step ``after``; None when it is of none."""
    if not code.isascii() or not code.isdecimal() or len(code) != totp.digits:
        return None
    present = int(now) // totp.interval
    for step in range(present - AROUND, present + AROUND + 1):
        if hmac.compare_digest(totp.generate_otp(step), code) and step > after:
            return step
    return None


def _word() -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(5))


def _digest(key: str) -> str:
    """Of a key of 99 random bits: nobody can try them all, so a fast hash will do."""
    return hashlib.sha256(key.lower().replace(" ", "").encode(errors="surrogatepass")).hexdigest()
