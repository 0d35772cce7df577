"""Personal data that has a form: numbers with a check digit, and what a pattern tells. Linear in the text's length.

Names, addresses and organisations have no form; a rule cannot tell them from other words, and none here tries.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import Any, NamedTuple

import re2

from triton_router.disguises import unhidden

# Types by the names of vLLM Semantic Router, which has none for the last two. Of two with the same extent the first
# counts: a check digit tells more than a pattern.
TYPES = (
    "CREDIT_CARD",
    "IBAN_CODE",
    "US_SSN",
    "EMAIL_ADDRESS",
    "IP_ADDRESS",
    "PHONE_NUMBER",
    "DATE_OF_BIRTH",
    "API_KEY",
)
# What their classifier knows and a rule cannot.
WITHOUT_FORM = (
    "AGE",
    "DATE_TIME",
    "DOMAIN_NAME",
    "GPE",
    "NRP",
    "ORGANIZATION",
    "PERSON",
    "STREET_ADDRESS",
    "TITLE",
    "US_DRIVER_LICENSE",
    "ZIP_CODE",
)

# Lengths of account numbers and the countries that have them: SWIFT's IBAN registry.
_IBAN_COUNTRIES = {
    15: "NO",
    16: "BE",
    18: "DK FI FO GL NL SD",
    19: "MK SI",
    20: "AT BA EE KZ LT LU XK",
    21: "CH CR HR LI LV",
    22: "BG BH DE GB GE IE ME RS VA",
    23: "AE GI IL IQ TL",
    24: "AD CZ ES MD PK RO SA SE SK TN VG",
    25: "LY PT ST",
    26: "IS TR",
    27: "BI DJ FR GR IT MC MR SM",
    28: "AL AZ BY CY DO GT HU LB PL SV UA",
    29: "BR EG PS QA",
    30: "JO KW MU",
    31: "MT SC",
    32: "LC",
}
_IBAN_LENGTHS = {country: length for length, names in _IBAN_COUNTRIES.items() for country in names.split()}
# Characters next to a number that make it a part of something longer.
_JOINED = frozenset(string.ascii_letters + string.digits + "_")


class Finding(NamedTuple):
    """Personal data of a ``type`` at [start, end) characters of a text."""

    start: int
    end: int
    type: str


def _finding(match: Any, type: str, group: int = 0) -> Finding:
    start, end = match.span(group)
    return Finding(start, end, type)


def find(text: str) -> list[Finding]:
    """What ``text``, without lone surrogates, has: in order and without overlaps, of two that overlap the longer."""
    findings: list[Finding] = []
    for each in sorted({finding for seek in _SEEKERS for finding in seek(text)}):
        if not findings or findings[-1].end <= each.start:
            findings.append(each)
        elif _rank(each) < _rank(findings[-1]):
            findings[-1] = each
    return findings


def _rank(finding: Finding) -> tuple[int, int]:
    return finding.start - finding.end, TYPES.index(finding.type)


def types(text: str) -> frozenset[str]:
    """The types of data in ``text``, also where it is disguised."""
    there = {finding.type for finding in find(text)}
    if (undisguised := unhidden(text)) != text:
        there |= {finding.type for finding in find(undisguised)}
    return frozenset(there)


# --- by check digit --------------------------------------------------------------------------------------------------

MOST_GROUPS = 8
_DIGITS = re2.compile(r"\d(?:[ -]?\d){11,22}")
_IBAN = re2.compile(r"(?i)[a-z]{2}\d{2}(?:[ -]?[a-z0-9]){11,34}")


def _cards(text: str) -> Iterator[Finding]:
    for match in _DIGITS.finditer(text):
        start, end = match.span()
        if _joined(text, start, end):
            continue
        # Another number may stand next to it, with a space between them: so whole groups are taken away.
        groups = [part.span() for part in re.finditer(r"\d+", match.group())]
        # Nobody writes a card in more groups than that; digits one by one are put together elsewhere.
        groups = groups if len(groups) <= MOST_GROUPS else []
        yield from (
            Finding(start + first, start + last, "CREDIT_CARD")
            for first, last in _runs(groups)
            if _is_card(match.group()[first:last])
        )


def _runs(groups: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Where runs of ``groups`` begin and end, the longest first."""
    count = len(groups)
    for length in range(count, 0, -1):
        for first in range(count - length + 1):
            yield groups[first][0], groups[first + length - 1][1]


def _is_card(written: str) -> bool:
    digits = written.replace(" ", "").replace("-", "")
    if not 12 <= len(digits) <= 19 or len(set(digits)) < 2:
        return False
    # First digits of ISO/IEC 7812 that cards for payment have.
    if digits[0] not in "3456" and not "2221" <= digits[:4] <= "2720" and digits[:4] not in ("1800", "2131"):
        return False
    # Luhn: every second digit from the right counts twice.
    doubled = [int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(digits))]
    return sum(number - 9 if number > 9 else number for number in doubled) % 10 == 0


def _ibans(text: str) -> Iterator[Finding]:
    for match in _IBAN.finditer(text):
        start = match.start()
        length = _IBAN_LENGTHS.get(match.group()[:2].upper())
        if length is None or (start and text[start - 1] in _JOINED):
            continue
        end, letters = start, ""
        while end < match.end() and len(letters) < length:
            letters += text[end] if text[end] not in " -" else ""
            end += 1
        if len(letters) == length and text[end : end + 1] not in _JOINED and _is_iban(letters.upper()):
            yield Finding(start, end, "IBAN_CODE")


def _is_iban(letters: str) -> bool:
    """ISO 13616: the four first characters go behind, letters become numbers, the rest by 97 is 1."""
    return int("".join(str(int(letter, 36)) for letter in letters[4:] + letters[:4])) % 97 == 1


# --- by pattern ------------------------------------------------------------------------------------------------------

# Classes of letters would make the automaton too large; beyond ASCII any character counts as one.
_MAIL = re2.compile(
    r"[A-Za-z0-9._%+\x{80}-\x{10FFFF}-]+@(?:[A-Za-z0-9\x{80}-\x{10FFFF}-]+\.)+[A-Za-z\x{80}-\x{10FFFF}]{2,24}"
)
_SSN = re2.compile(r"(\d{3})([ -])(\d{2})([ -])(\d{4})")
_SSN_NAMED = re2.compile(r"(?i)(?:\bssn\b|social security (?:number|no\.?|#))\W{0,3}(?:is|:)?\W{0,3}(\d{9})")
_FOUR = re2.compile(r"\d{1,3}(?:\.\d{1,3}){3}")
_EIGHT = re2.compile(r"[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){3,7}")
_PHONE = re2.compile(
    r"(?:\+|\b00[ .-]?)[1-9]\d{0,2}[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d{1,5}(?:[ .-]?\d{2,5}){1,4}"
    r"|(?:\b1[ .-])?(?:\(\d{3}\) ?|\b\d{3}[.-])\d{3}[ .-]\d{4}(?: ?(?:x|ext\.?) ?\d{1,6})?"
    r"|\(0\d{1,4}\) ?\d{2,4}(?:[ .-]?\d{2,4}){1,3}|\b0\d{1,4}(?:[ .-]\d{2,4}){2,4}|\b0\d{2,4}[ /-]\d{5,8}"
    r"|\b\d{3} \d{3} \d{4}"
)
_PHONE_NAMED = re2.compile(
    r"(?i)(?:\b(?:phone|telephone|tel|mobile|cell|fax|whatsapp|call(?: me)?|text me|telefon|t[ée]l[ée]fono?|handy"
    r"|my number|number is|answering at|messages? to|reach (?:me|us|him|her|them) (?:at|on)|dial)\b"
    r"(?:[ -](?:number|no\.?|nr\.?|num\.?))?(?: (?:is|at|on|back|me|her|him|us))*[\s:.#=\"'-]{0,4})"
    r"(\(?\+?\d[\d ().-]{5,18}\d)"
)
_PHONE_LABELLED = re2.compile(r"(?i)(\(?\+?\d[\d ().-]{5,18}\d)(?:[ -]{1,2}|, ?)(?:office|fax|mobile|cell|landline)\b")
# "Number" of something else.
_OTHER_NUMBER = re.compile(r"(?i)(?:licen[cs]e|passport|account|order|invoice|policy|serial|reference|case|id)\W+$")
_DATE = (
    r"(?:\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}"
    r"|\d{1,2}(?:st|nd|rd|th|\.)? (?:of )?[A-Za-zéûäß]+\.?,? \d{4}|[A-Za-zéûäß]+ \d{1,2}(?:st|nd|rd|th)?,? \d{4})"
)
_BIRTH = re2.compile(
    r"(?i)(?:\b(?:d\.?o\.?b\.?|date[ _]of[ _]birth|birth[ _-]?da(?:te|y)|i was born|born|geboren(?: am)?|geburtsdatum"
    r"|fecha de nacimiento|date de naissance|née? le|nacid[oa] el)(?: (?:is|on|was))?[\s:=\"'(,-]{0,4})(" + _DATE + ")"
)
_KEY = re2.compile(
    r"\b(?:sk-(?:ant-|proj-)?[A-Za-z0-9_-]{20,}|(?:sk|pk|rk)_(?:live|test)_[A-Za-z0-9]{10,}|gh[pousr]_[A-Za-z0-9]{30,}"
    r"|github_pat_[A-Za-z0-9_]{40,}|glpat-[A-Za-z0-9_-]{20,}|xox[abprs]-[A-Za-z0-9-]{10,}|(?:AKIA|ASIA)[A-Z0-9]{16}"
    r"|AIza[A-Za-z0-9_-]{35}|hf_[A-Za-z0-9]{30,}|npm_[A-Za-z0-9]{36}|SG\.[A-Za-z0-9_-]{20,}\.[A-Za-z0-9_-]{20,}"
    r"|eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,})"
    r"|-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----"
)
_KEY_NAMED = re2.compile(
    r"(?i)\b(?:[a-z]+[_-])?(?:api[_-]?key|secret(?:[_-]?key)?|access[_-]?(?:key|token)|auth[_-]?token|token|password"
    r"|passwd|pwd)[\"']?\s*(?::=|[:=])\s*[\"']?([^\s\"'<>(){}\[\],;$]{8,200})"
)


def _mails(text: str) -> Iterator[Finding]:
    if "@" in text:
        for match in _MAIL.finditer(text):
            # An address of a repository, which names nobody.
            if not match.group().startswith("git@"):
                yield _finding(match, "EMAIL_ADDRESS")


def _security_numbers(text: str) -> Iterator[Finding]:
    for match in _SSN.finditer(text):
        area, first, group, second, serial = match.groups()
        # The Social Security Administration gives none of these. From 900 on the tax office does, in the same form.
        possible = area not in ("000", "666") and group != "00" and serial != "0000"
        if possible and first == second and not _joined(text, *match.span()):
            yield _finding(match, "US_SSN")
    yield from (_finding(match, "US_SSN", 1) for match in _SSN_NAMED.finditer(text))


def _network_addresses(text: str) -> Iterator[Finding]:
    for expression in (_FOUR, _EIGHT):
        for match in expression.finditer(text):
            start, end = match.span()
            if not _joined(text, start, end, also=".:") and _is_address(match.group()):
                yield Finding(start, end, "IP_ADDRESS")


def _is_address(written: str) -> bool:
    """An address that may be somebody's: not the machine's own, no mask, and no number of a version."""
    try:
        address = ip_address(written)
    except ValueError:
        return False
    if address.version == 6 and sum(map(bool, written.split(":"))) < 4:
        return False
    return not (address.is_loopback or address.is_unspecified or written.startswith(("0.", "1.0.", "255.255.")))


def _phones(text: str) -> Iterator[Finding]:
    for match in _PHONE.finditer(text):
        start, end = match.span()
        longer = text[start].isdigit() and text[start - 2 : start - 1].isdigit() and text[start - 1] in " .-"
        if _is_phone(match.group()) and not longer and not _joined(text, start, end, also="-"):
            yield Finding(start, end, "PHONE_NUMBER")
    for match in _PHONE_NAMED.finditer(text):
        other = match.group().lower().startswith("number") and _OTHER_NUMBER.search(text[: match.start()][-16:])
        if not other and _is_phone(match.group(1)) and text[match.end() : match.end() + 1] not in _JOINED:
            yield _finding(match, "PHONE_NUMBER", 1)
    for match in _PHONE_LABELLED.finditer(text):
        if _is_phone(match.group(1)) and text[match.start() - 1 : match.start()] not in _JOINED:
            yield _finding(match, "PHONE_NUMBER", 1)


def _is_phone(written: str) -> bool:
    # A date, or zeros to fill up.
    if re.fullmatch(r"\d{2}[ .-]\d{2}[ .-](?:19|20)\d{2}", written) or re.match(r"\(?00\W?0", written):
        return False
    # E.164 allows 15 digits; fewer than 7 are no subscriber's.
    return 7 <= sum(map(str.isdigit, written.partition("x")[0])) <= 15


def _births(text: str) -> Iterator[Finding]:
    yield from (_finding(match, "DATE_OF_BIRTH", 1) for match in _BIRTH.finditer(text))


def _keys(text: str) -> Iterator[Finding]:
    yield from (_finding(match, "API_KEY") for match in _KEY.finditer(text))
    for match in _KEY_NAMED.finditer(text):
        value = match.group(1)
        # Words and names of variables are no secrets.
        if re.search(r"\d", value) and re.search(r"[A-Za-z]", value) and not re.fullmatch(r"[A-Za-z_.]+\d?", value):
            yield _finding(match, "API_KEY", 1)


def _joined(text: str, start: int, end: int, also: str = "") -> bool:
    """Whether a number goes on beyond [start, end): it is a part of a longer one."""
    before, behind = text[start - 1 : start], text[end : end + 2]
    if before in _JOINED or (behind[:1] in _JOINED and behind):
        return bool(before) or bool(behind)
    # A mark ends a sentence unless a digit follows.
    return (bool(before) and before in also) or (behind[:1] in tuple(also) and behind[1:].isdigit())


_SEEKERS: tuple[Callable[[str], Iterator[Finding]], ...] = (
    _mails,
    _phones,
    _cards,
    _ibans,
    _security_numbers,
    _network_addresses,
    _births,
    _keys,
)
