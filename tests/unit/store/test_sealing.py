"""What is sealed opens in its own place, with its own key, unaltered; and in no other way."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from racimo.errors import Conflict, Refused
from racimo.model.notification import Target, TargetKind
from racimo.store.sealing import Keyring, Sealing, dump_ring, has_secrets, is_sealed, new_sealing_key

if TYPE_CHECKING:
    from pathlib import Path

PLACE = "/racimo/1/notifications/targets/ops#password"


def keep(file: Path, ring: Keyring) -> None:
    fresh = file.with_suffix(".new")
    fresh.write_bytes(dump_ring(ring))
    fresh.replace(file)


@pytest.fixture(scope="module")
def sealing(tmp_path_factory: pytest.TempPathFactory) -> Sealing:
    file, key = tmp_path_factory.mktemp("etc") / "sealing.json", new_sealing_key()
    keep(file, Keyring(datacenter="dc", current=key.id, keys=(key,)))
    return Sealing(file)


@given(text=st.text(), place=st.text())
def test_what_was_sealed_opens_as_it_was(sealing: Sealing, text: str, place: str) -> None:
    sealed = sealing.seal(text, place)
    assert sealing.open(sealed, place) == text
    assert is_sealed(sealed)


def test_the_same_secret_never_looks_the_same(sealing: Sealing) -> None:
    assert sealing.seal("hush", PLACE) != sealing.seal("hush", PLACE)


def test_a_secret_that_looks_sealed_is_sealed_like_any_other(sealing: Sealing) -> None:
    once = sealing.seal("hush", PLACE)
    assert sealing.open(sealing.seal(once, PLACE), PLACE) == once


def test_it_opens_in_no_other_place(sealing: Sealing) -> None:
    with pytest.raises(Refused, match="sealed for another place"):
        sealing.open(sealing.seal("hush", PLACE), PLACE.replace("ops", "mine"))


@given(at=st.integers(0, 31), bit=st.integers(0, 7))
def test_one_altered_bit_is_noticed(sealing: Sealing, at: int, bit: int) -> None:
    head, _, body = sealing.seal("hush", PLACE).rpartition(":")
    raw = bytearray(base64.b64decode(body))
    raw[at] ^= 1 << bit
    with pytest.raises(Refused, match="it was altered"):
        sealing.open(f"{head}:{base64.b64encode(raw).decode()}", PLACE)


@pytest.mark.parametrize("cut", ["sealed:1:", "sealed:1:KEY:", "sealed:1:KEY:AAAA", "sealed:1:KEY:%"])
def test_what_was_cut_off_is_an_error_and_not_a_secret(sealing: Sealing, cut: str) -> None:
    with pytest.raises((Refused, Conflict), match="A secret cannot be opened"):
        sealing.open(cut.replace("KEY", sealing.ring.current), PLACE)


def test_what_was_written_before_there_was_sealing_is_taken_as_it_stands(sealing: Sealing) -> None:
    assert sealing.open("hush", PLACE) == "hush"


def test_a_key_that_comes_later_is_found_and_older_ones_still_open(tmp_path: Path) -> None:
    file, first, second = tmp_path / "sealing.json", new_sealing_key(), new_sealing_key()
    early = Sealing(file)
    with pytest.raises(Conflict, match="has no sealing key yet"):
        early.seal("hush", PLACE)
    keep(file, Keyring(datacenter="dc", current=first.id, keys=(first,)))
    sealed = early.seal("hush", PLACE)
    elsewhere = Sealing(tmp_path / "other.json")
    with pytest.raises(Conflict, match=f"lacks the key {first.id}"):
        elsewhere.open(sealed, PLACE)
    keep(elsewhere.file, Keyring(datacenter="dc", current=second.id, keys=(second, first)))
    assert elsewhere.open(sealed, PLACE) == "hush"
    assert elsewhere.seal("hush", PLACE).startswith(f"sealed:1:{second.id}:")


def test_a_file_that_went_away_and_came_back_is_read_again(sealing: Sealing) -> None:
    sealed, away = sealing.seal("hush", PLACE), sealing.file.with_suffix(".away")
    sealing.file.rename(away)
    with pytest.raises(Conflict):
        sealing.seal("hush", PLACE)
    away.rename(sealing.file)
    assert sealing.open(sealed, PLACE) == "hush"


def test_a_damaged_file_is_said_without_what_is_in_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "sealing.json"
    file.write_text('{"keys": [{"key": "aHVzaA=="')
    with pytest.raises(Conflict):
        Sealing(file).open("sealed:1:abc:AAAA", PLACE)
    said = capsys.readouterr().out
    assert str(file) in said and "aHVzaA" not in said


TARGET = Target(
    name="chat", kind=TargetKind.WEBHOOK, url="https://c", headers={"A": "x {{ secrets.t }}"}, secrets={"t": "hush"}
)  # fmt: skip


def test_a_record_is_sealed_field_by_field_and_what_did_not_change_stays(sealing: Sealing) -> None:
    assert has_secrets(Target)
    sealed = sealing.seal_record("k", TARGET)
    assert "hush" not in str([sealed.headers, sealed.secrets, sealed.password])
    assert sealing.open_record("k", sealed) == TARGET
    changed = sealing.seal_record("k", replace(TARGET, secrets={"t": "other"}), before=sealed, opened=TARGET)
    assert changed.headers == sealed.headers
    assert sealing.open_record("k", changed).secrets == {"t": "other"}
    with pytest.raises(Refused):
        sealing.open_record("another", sealed)


def test_a_secret_left_as_it_was_is_sealed_where_it_stood_in_the_clear(sealing: Sealing) -> None:
    sealed = sealing.seal_record("k", TARGET, before=TARGET, opened=TARGET)
    assert is_sealed(sealed.secrets["t"])


def test_sealing_anew_names_what_nobody_can_open(sealing: Sealing) -> None:
    record = sealing.seal_record("k", TARGET)
    lost = replace(record, secrets={"t": "sealed:1:0123456789abcdef:AAAA"})
    renewed, names = sealing.renewed("k", lost)
    assert names == ["secrets.t"]
    assert renewed == lost
