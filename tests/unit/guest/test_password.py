"""Password hashes agree with those of the C library."""

from __future__ import annotations

import secrets
import subprocess

import pytest

from racimo.guest.password import hash_password, is_hash, sha512_crypt


@pytest.mark.parametrize("password", ["x", "Hello world!", "año 2026 €", "k" * 200])
@pytest.mark.parametrize("salt", ["ab", "0123456789abcdef"])
def test_a_hash_is_the_one_that_openssl_makes(password: str, salt: str) -> None:
    answer = subprocess.run(
        ["openssl", "passwd", "-6", "-salt", salt, "-stdin"],
        input=password + "\n",
        capture_output=True,
        text=True,
        check=True,
    )
    assert sha512_crypt(password, salt) == answer.stdout.strip()


def test_each_hash_has_its_own_salt_and_is_known_as_a_hash() -> None:
    bits = secrets.randbits
    one, two = hash_password("secret", bits), hash_password("secret", bits)
    assert one != two
    assert is_hash(one) and not is_hash("secret")
