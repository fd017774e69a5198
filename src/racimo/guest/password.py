"""Password hashes of crypt(5), method SHA-512 (``$6$``), so that no password is ever kept.

Written from U. Drepper's "Unix crypt using SHA-256 and SHA-512", version 0.6; Python's own ``crypt`` ended with 3.12.
"""

from __future__ import annotations

import hashlib
import re
from itertools import cycle, islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

ALPHABET = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
ROUNDS = 5000
SALT_LENGTH = 16
HASH = re.compile(r"\$[a-z0-9]{1,6}\$[./A-Za-z0-9$=,]{8,200}")
"""What crypt(5) calls a hashed passphrase."""


def is_hash(text: str) -> bool:
    """Whether this is a hash already."""
    return HASH.fullmatch(text) is not None


def hash_password(password: str, randbits: Callable[[int], int]) -> str:
    """The hash of a password with a fresh salt."""
    salt = "".join(ALPHABET[randbits(6)] for _ in range(SALT_LENGTH))
    return sha512_crypt(password, salt)


def sha512_crypt(password: str, salt: str) -> str:
    """``$6$salt$...`` with the default of 5000 rounds; of the salt 16 characters count."""
    key, grain = password.encode(), salt.encode()[:SALT_LENGTH]
    inner = hashlib.sha512(key + grain + key).digest()
    digest = hashlib.sha512(key + grain + _repeat(inner, len(key)))
    count = len(key)
    while count:
        digest.update(inner if count & 1 else key)
        count >>= 1
    state = digest.digest()
    long_key = _repeat(hashlib.sha512(key * len(key)).digest(), len(key))
    long_salt = _repeat(hashlib.sha512(grain * (16 + state[0])).digest(), len(grain))
    for turn in range(ROUNDS):
        head, tail = (long_key, state) if turn & 1 else (state, long_key)
        middle = (long_salt if turn % 3 else b"") + (long_key if turn % 7 else b"")
        state = hashlib.sha512(head + middle + tail).digest()
    return f"$6${grain.decode()}${_encode(state)}"


def _repeat(block: bytes, length: int) -> bytes:
    return bytes(islice(cycle(block), length))


def _encode(state: bytes) -> str:
    """Base 64 of the specification: three bytes at a time, 21 bytes apart, in turning order."""
    text, order = "", (0, 21, 42)
    for _ in range(21):
        text += _characters((state[index] for index in order), 4)
        order = (order[1] + 1, order[2] + 1, order[0] + 1)
    return text + _characters((0, 0, state[63]), 2)


def _characters(values: Iterable[int], count: int) -> str:
    number = int.from_bytes(bytes(values), "big")
    return "".join(ALPHABET[number >> 6 * index & 63] for index in range(count))
