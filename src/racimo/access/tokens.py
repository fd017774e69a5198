"""API tokens: a name, a secret that is shown once, and whether it may less than its user."""

from __future__ import annotations

import hashlib
import hmac
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING

from racimo.access.names import check_token
from racimo.errors import AlreadyExists, BadParameter, Conflict, NotFound
from racimo.model.access import Grantee

if TYPE_CHECKING:
    from collections.abc import Callable

    from racimo.access.users import Users
    from racimo.model.access import Token
    from racimo.store.layout import Layout


class Tokens:
    """Changes tokens, one transaction each."""

    def __init__(self, layout: Layout, users: Users) -> None:
        self._layout, self._users = layout, users

    async def of(self, user: str) -> list[Token]:
        """Those of a user, by name. Raises ``NotFound``."""
        await self._users.get(user)
        return [token for token in await self._layout.tokens.records() if token.user == user]

    async def get(self, user: str, name: str) -> Token:
        """Raises ``NotFound``."""
        held = await self._layout.tokens.find(f"{user}!{check_token(name)}")
        if held is None:
            raise NotFound(f"no such token '{name}' for user '{user}': it does not exist")
        return held.record

    async def create(self, token: Token) -> str:
        """Returns the secret; it cannot be read again. Raises ``AlreadyExists``, ``NotFound``."""
        check_token(token.name)
        _check(token)
        await self._users.get(token.user)
        secret = str(uuid.uuid4())
        made = replace(token, digest=digest_of(secret))
        owner = await self._layout.users.find(token.user)
        compares = [self._layout.tokens.absent(token.id)] + ([owner.compare] if owner else [])
        if await self._layout.tokens.find(token.id) is not None:
            raise AlreadyExists(f"Token already exists: '{token.id}'")
        if await self._layout.store.txn(compares, [self._layout.tokens.put(token.id, made)]) is None:
            raise Conflict(f"Token '{token.id}' was not made", why="its user just changed", todo="Try again")
        return secret

    async def change(
        self, user: str, name: str, change: Callable[[Token], Token], *, regenerate: bool
    ) -> tuple[Token, str]:
        """The changed token, and a new secret if one was wanted. ``change`` must be pure."""
        await self.get(user, name)
        secret = str(uuid.uuid4()) if regenerate else ""

        def changed(token: Token) -> Token:
            new = change(token)
            _check(new)
            return replace(new, digest=digest_of(secret)) if secret else new

        return await self._layout.tokens.update(f"{user}!{name}", changed), secret

    async def remove(self, user: str, name: str) -> None:
        """With what the ACL says of it. Raises ``NotFound``."""
        token = await self.get(user, name)
        entries = await self._layout.acl.records()
        own = [entry.id for entry in entries if entry.kind is Grantee.TOKEN and entry.grantee == token.id]
        keys = [self._layout.tokens.key(token.id), *(self._layout.acl.key(entry) for entry in own)]
        await self._layout.store.txn(deletes=keys)


def digest_of(secret: str) -> str:
    """What is kept of a secret of 122 random bits."""
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()


def is_secret_of(token: Token, secret: str) -> bool:
    """Whether it is the token's, found out in a time that does not depend on how much of it is right."""
    return bool(token.digest) and hmac.compare_digest(token.digest, digest_of(secret))


def _check(token: Token) -> None:
    if token.expire < 0:
        raise BadParameter({"expire": "is in seconds since the epoch; 0 is never"})
    if len(token.comment) > 2048:
        raise BadParameter({"comment": "takes 2048 characters at most"})
