"""Personal data that has a form: what counts, what does not, and that any text can be read."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triton_router.personal import TYPES, find, types

# Numbers from the documentation of card schemes, IBAN registry and RFCs: nobody's.
DATA = [
    ("pay with 4111 1111 1111 1111 please", "CREDIT_CARD", "4111 1111 1111 1111"),
    ("amex 378282246310005.", "CREDIT_CARD", "378282246310005"),
    ("card 5555-5555-5555-4444, cvv 123", "CREDIT_CARD", "5555-5555-5555-4444"),
    ("order 12 4012888888881881 99", "CREDIT_CARD", "4012888888881881"),
    ("to DE89 3704 0044 0532 0130 00 today", "IBAN_CODE", "DE89 3704 0044 0532 0130 00"),
    ("iban gb82west12345698765432", "IBAN_CODE", "gb82west12345698765432"),
    ("GB82 WEST 1234 5698 7654 32 AND MORE WORDS", "IBAN_CODE", "GB82 WEST 1234 5698 7654 32"),
    ("my ssn is 078-05-1120", "US_SSN", "078-05-1120"),
    ("SSN: 078051120", "US_SSN", "078051120"),
    ("write to jane.doe+x@mail.example.org.", "EMAIL_ADDRESS", "jane.doe+x@mail.example.org"),
    ("von müller@straße.example", "EMAIL_ADDRESS", "müller@straße.example"),
    ("host 203.0.113.77.", "IP_ADDRESS", "203.0.113.77"),
    ("from 2001:db8:85a3::8a2e:370:7334", "IP_ADDRESS", "2001:db8:85a3::8a2e:370:7334"),
    ("call +44 20 7946 0958", "PHONE_NUMBER", "+44 20 7946 0958"),
    ("(212) 555-0123 after six", "PHONE_NUMBER", "(212) 555-0123"),
    ("phone: 5550123", "PHONE_NUMBER", "5550123"),
    ("ruf an: 030 12 34 56 78", "PHONE_NUMBER", "030 12 34 56 78"),
    ("DOB: 1984-02-29", "DATE_OF_BIRTH", "1984-02-29"),
    ("I was born on March 3, 1990", "DATE_OF_BIRTH", "March 3, 1990"),
    ("key AKIAIOSFODNN7EXAMPLE", "API_KEY", "AKIAIOSFODNN7EXAMPLE"),
    ("API_KEY = 'a8f5f167f44f4964e6c998dee827110c'", "API_KEY", "a8f5f167f44f4964e6c998dee827110c"),
    ("-----BEGIN RSA PRIVATE KEY-----", "API_KEY", "-----BEGIN RSA PRIVATE KEY-----"),
]

NOTHING = [
    "4111 1111 1111 1112 fails the check digit",
    "DE89 3704 0044 0532 0130 01 fails it too",
    "000-12-3456 is no number of anybody",
    "version 1.0.3.4, listening on 127.0.0.1",
    "git@github.com:owner/name.git",
    "from 1914-07-28 to 1918-11-11, 70 million people",
    "std::vector<int>::iterator at 12:34:56",
    "password = getpass.getpass()",
    "pi is 3.14159265358979323846",
    "uuid 123e4567-e89b-12d3-a456-426614174000",
    "Ada Lovelace lived at 12 St James's Square",
]


@pytest.mark.parametrize(("text", "type", "value"), DATA)
def test_it_is_found_where_it_stands(text: str, type: str, value: str) -> None:
    assert [(finding.type, text[finding.start : finding.end]) for finding in find(text)] == [(type, value)]


@pytest.mark.parametrize("text", NOTHING)
def test_what_only_looks_like_it_is_left(text: str) -> None:
    assert find(text) == []


def test_many_of_them_stand_side_by_side() -> None:
    text = "(212) 555-0123 (212) 555-0124, 4111 1111 1111 1111 jane@mail.example"
    assert [each.type for each in find(text)] == ["PHONE_NUMBER", "PHONE_NUMBER", "CREDIT_CARD", "EMAIL_ADDRESS"]


def test_characters_without_width_and_full_width_digits_hide_nothing() -> None:
    assert types("card 4111\u200b1111\u200b1111\u200b1111") == {"CREDIT_CARD"}
    assert types("\uff14\uff11\uff11\uff11 1111 1111 1111") == {"CREDIT_CARD"}


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=300))
def test_any_text_can_be_read(text: str) -> None:
    findings = find(text)
    assert all(0 <= each.start < each.end <= len(text) and each.type in TYPES for each in findings)
    assert all(one.end <= other.start for one, other in pairwise(findings))


@given(st.text(alphabet="ab ,.", max_size=40), st.sampled_from(DATA), st.text(alphabet="ab ,.", max_size=40))
def test_words_around_it_hide_nothing(before: str, row: tuple[str, str, str], behind: str) -> None:
    text, type, _ = row
    assert type in types(f"{before} {text} {behind}")
