from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from racimo.access.tickets import AHEAD, CHALLENGE_LIFETIME, LIFETIME, TicketSigner

SIGNER, NOW = TicketSigner(b"k" * 32), 1_800_000_000.0


def test_a_ticket_has_the_form_that_clients_know() -> None:
    ticket = SIGNER.ticket("anna@pve", NOW)
    assert ticket.startswith("PVE:anna@pve:6B49D200::")


def test_a_ticket_is_good_for_two_hours_and_not_before_its_time() -> None:
    ticket = SIGNER.ticket("anna@pve", NOW)
    assert SIGNER.read(ticket, NOW) == SIGNER.read(ticket, NOW + LIFETIME) == SIGNER.read(ticket, NOW - AHEAD)
    assert SIGNER.read(ticket, NOW + LIFETIME + 1) is None
    assert SIGNER.read(ticket, NOW - AHEAD - 1) is None


def test_a_ticket_signed_with_another_key_is_forged() -> None:
    assert SIGNER.read(TicketSigner(b"x" * 32).ticket("anna@pve", NOW), NOW) is None


def test_one_kind_of_proof_serves_for_no_other() -> None:
    challenge = SIGNER.challenge("anna@pve", '{"totp":true}', NOW)
    assert SIGNER.read(challenge, NOW) is None
    assert SIGNER.read_challenge(SIGNER.ticket("anna@pve", NOW), "anna@pve", NOW) is None
    assert SIGNER.read_challenge(challenge, "anna@pve", NOW) is not None
    assert SIGNER.read_challenge(challenge, "ben@pve", NOW) is None
    assert SIGNER.read_challenge(challenge, "anna@pve", NOW + CHALLENGE_LIFETIME + 1) is None
    assert not SIGNER.is_form_token(SIGNER.ticket("anna@pve", NOW), "anna@pve", NOW)


def test_a_form_token_is_of_one_user() -> None:
    token = SIGNER.form_token("anna@pve", NOW)
    assert SIGNER.is_form_token(token, "anna@pve", NOW)
    assert not SIGNER.is_form_token(token, "ben@pve", NOW)
    assert not SIGNER.is_form_token(token, "anna@pve", NOW + LIFETIME + 1)
    assert not SIGNER.is_form_token("", "anna@pve", NOW)


@given(st.text(max_size=80))
def test_no_text_is_a_ticket_by_chance(text: str) -> None:
    assert SIGNER.read(text, NOW) is None
    assert SIGNER.read(f"PVE:{text}", NOW) is None
    assert SIGNER.read_challenge(text, "anna@pve", NOW) is None
    assert not SIGNER.is_form_token(text, "anna@pve", NOW)


@given(st.data())
def test_a_ticket_changed_anywhere_is_no_good(data: st.DataObject) -> None:
    ticket = SIGNER.ticket("anna@pve", NOW)
    place = data.draw(st.integers(0, len(ticket) - 1))
    letter = data.draw(st.characters().filter(lambda c: c != ticket[place]))
    assert SIGNER.read(ticket[:place] + letter + ticket[place + 1 :], NOW) is None


@pytest.mark.parametrize("more", ["", "A", "::", "=", "\n"])
def test_a_ticket_made_longer_or_shorter_is_no_good(more: str) -> None:
    ticket = SIGNER.ticket("anna@pve", NOW)
    assert SIGNER.read(ticket[:-1] if not more else ticket + more, NOW) is None
