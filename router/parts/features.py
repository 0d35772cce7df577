"""What is seen of each unit of a message at a glance, as keys of the network's vocabulary."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from itertools import groupby, pairwise

from triton_router.dialects.request import names
from triton_router.parts.asking import ASKING, ORDERS
from triton_router.parts.shapes import MAIL_FIELDS, ShapeTable, name_of, reading_by_name
from triton_router.parts.units import Unit

# The words of a unit are read so near to its ends.
HEAD, TAIL = 80, 40

# What a unit at the front of a line stands behind, and what ends a block.
_FRONTS, _ENDS = frozenset({"start", "line", "blank"}), ("</", "[/", "{{/")
_JSON = re.compile(
    r"^(?:\{[ \t]*\"[^\n]*\}|\[[ \t]*[{\"][^\n]*\]|\{[ \t]*\n(?:[ \t][^\n]*\n)++\}|\[[ \t]*\n(?:[ \t][^\n]*\n)++\])"
    r"[ \t]*$",
    re.MULTILINE,
)
_MAIL_TITLE = re.compile(
    r"\b(?:original|forwarded|weitergeleitete|ursprüngliche|reenviado|transféré|inoltrato|encaminhada|oorspronkelijk"
    r"|doorgestuurd|przekazana|oryginalna|пересланн\w*|исходное|vidarebefordra\w*|videresend\w*)\b"
    r"|message d'origine|messaggio originale|元のメッセージ|転送|原始邮件|转发|원본 메시지"
)
# At the end of the line above a quoted mail, which names a date and a person.
_WROTE = re.compile(
    r"\b(?:wrote|schrieb|écrit|escribió|scritto|schreef|escreveu|skrev|kirjoitti|yazdı|írta|napisał|писал|от)\b"
    r"|@[\w.-]+>|写道|のメール|작성"
)
LONGEST_ATTRIBUTION = 250
# A unit that stands in a message again is longer.
SHORTEST_REPEAT = 3
_BRACKETS = {"(": ")", "[": "]", "{": "}", "（": "）", "【": "】"}
_WORD = re.compile(r"[^\W\d_]+(?:'[a-z]+)?")
_CJK = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_NAME = re.compile(r"[^\W\d_][^\n:：<>\[\]{}=\"]{0,60}")
_CLASSES_OF_SIGNS = str.maketrans(
    {
        **dict.fromkeys(map(chr, range(48, 58)), "0"),
        **dict.fromkeys(map(chr, range(65, 91)), "A"),
        **dict.fromkeys(map(chr, range(97, 123)), "a"),
        "\u2018": "'",
        "\u2019": "'",
        "\u201c": '"',
        "\u201d": '"',
        "\n": " ",
    }
)
_RUNS = tuple((sign * length, sign) for sign in "a0A " for length in (4, 2, 2))
_CLASSES = (
    ("order", ORDERS),
    ("asking", ASKING - ORDERS),
    (
        "conduct",
        names(
            """never always do don't be keep use avoid only must respond reply answer sign stay remember ensure refuse
            escalate limit mark cite mention return output end begin finish no speak treat follow antworte bitte
            responde réponds sois nenne verwende redacta usa utiliza rédige utilise rispondi responda antwoord gebruik
            odpowiedz napisz odpověz napiš ответь отвечай используй відповідай підготуй yanıtla cevapla yaz svara skriv
            svar bruk brug vastaa kirjoita käytä válaszolj írj απάντησε γράψε jawab tulis răspunde scrie"""
        ),
    ),
    ("polite", names("hi hello hey dear hallo guten bonjour hola ciao thanks thank regards best kind warm cheers")),
    ("self", names("i i'm i've i'd my we our me ich mein je mon yo mi я io")),
)
_CLASS_OF = {word: name for name, words in reversed(_CLASSES) for word in words}


def _shape(classes: str) -> str:
    """How a text begins: runs of small letters, capitals and digits as one sign each."""
    for run, sign in _RUNS:
        classes = classes.replace(run, sign)
    return classes[:5]


def _name(text: str, unit: Unit) -> str:
    """The name in a label or a tag."""
    match = _NAME.search(text, unit.start, unit.end)
    return match[0].strip(" *_)]\"'") if match else ""


def _sides(text: str, units: Sequence[Unit], names_of: Sequence[str]) -> list[str]:
    """Where each unit is: in JSON, in a fence or in a block in tags, or in which text outside of them."""
    opened: list[tuple[str, int]] = []
    inside = [False] * len(units)

    def enclose(begin: int, end: int) -> None:
        if 0 < begin < end and units[begin].before in _FRONTS and units[begin - 1].form == "label":
            begin -= units[begin - 1].before in _FRONTS  # the block's title
        inside[begin:end] = [True] * (end - begin)

    if "\n{" in text or "\n[" in text or text.startswith(("{", "[")):
        starts = [unit.start for unit in units]
        for match in _JSON.finditer(text):
            enclose(bisect_left(starts, match.start()), bisect_left(starts, match.end()))
    fence = -1
    for number, unit in enumerate(units):
        if unit.form == "fence":
            if fence >= 0:
                enclose(fence, number + 1)
            fence = number if fence < 0 else -1
        if unit.form != "tag" or not names_of[number]:
            continue
        name = names_of[number].split()[0]
        if not text.startswith(_ENDS, unit.start):
            if unit.before in _FRONTS:
                opened.append((name, number))
                del opened[:-8]
        elif name in (names := [each for each, _ in opened]):
            depth = len(names) - 1 - names[::-1].index(name)
            enclose(opened[depth][1], number + 1)
            del opened[depth:]
    if not any(inside):
        return []
    groups = [(is_inside, len(list(group))) for is_inside, group in groupby(inside)]
    outside = sum(not is_inside for is_inside, _ in groups)
    sides: list[str] = []
    met = 0
    for is_inside, length in groups:
        met += not is_inside
        side = "only" if outside == 1 else "first" if met == 1 else "last" if met == outside else "mid"
        sides += ["in" if is_inside else side] * length
    return sides


def _mail_heads(text: str, units: Sequence[Unit], names_of: Sequence[str]) -> frozenset[int]:
    """The units that begin the head of a mail: its first field or title, or what says who wrote what follows."""
    heads: list[int] = []
    line = begin = first = 0
    last_field = last_title = -9
    for number, unit in enumerate(units):
        if unit.before in _FRONTS:
            line += 1
            begin = number
        name = names_of[number].casefold() if unit.form == "label" else ""
        if name in MAIL_FIELDS and begin == number:
            if last_field != line - 1:
                first = number
            elif last_title != line - 2 and (not heads or heads[-1] < first):
                heads.append(first)
            last_field = line
        elif name and unit.prefix == "title" and _MAIL_TITLE.search(name):
            heads.append(begin)
            last_title = line
        elif (
            ":" in text[unit.end - 1 : unit.end + 2]
            and unit.end - units[begin].start < LONGEST_ATTRIBUTION
            and (number + 1 == len(units) or units[number + 1].before in _FRONTS)
            and any(map(str.isdecimal, text[units[begin].start : unit.end]))
            and _WROTE.search(text, units[begin].start, unit.end + 1)
        ):
            heads.append(begin)
    return frozenset(heads)


def _asides(text: str, units: Sequence[Unit]) -> dict[int, str]:
    """The brackets around a whole line or a whole paragraph, for the units in it."""
    asides: dict[int, str] = {}
    sign, end = "", 0
    for number, unit in enumerate(units):
        opened = unit.opened
        if opened >= end:
            sign = text[opened]
            if sign not in _BRACKETS or (opened and text[opened - 1] != "\n"):
                continue
            stops = (text.find(gap, opened) for gap in ("\n", "\n\n"))
            ends = [stop if stop >= 0 else len(text) for stop in stops]
            end = next((stop for stop in ends if text[stop - 1] == _BRACKETS[sign]), 0)
        if opened < end:
            asides[number] = sign
    return asides


def observe(text: str, units: Sequence[Unit], shapes: ShapeTable) -> list[list[str]]:
    """What is seen of each unit, as keys of the network's vocabulary."""
    count = len(units)
    last = count - 1
    heads = [text[start : min(end, start + HEAD)] for start, end, *_ in units]
    classes = [head.translate(_CLASSES_OF_SIGNS) for head in heads]
    looks = [_shape(signs[:16]) for signs in classes]
    starts = [look[:3] for look in looks]
    kinds = Counter(starts)
    questions = [
        number
        for number, (start, end, form, *_) in enumerate(units)
        if (form == "text" and text[end - 1] in "?？") or text.find("? ", start, end) > 0
    ]
    first_question, last_question = (questions[0], questions[-1]) if questions else (-1, -1)
    breaks = sum(unit.before == "blank" for unit in units)
    paragraph = 0
    tags: list[tuple[str, str]] = []
    label, since = "none", 9
    names_of = [_name(text, unit) if unit.form in ("label", "tag") else "" for unit in units]
    often = Counter(names_of)
    met: Counter[str] = Counter()
    quoted = False
    sides = _sides(text, units, names_of)
    heads_before, mails = 0, _mail_heads(text, units, names_of)
    asides = _asides(text, units)
    again, once_more = Counter(heads), Counter[str]()
    seen: list[list[str]] = []
    size = min(9, count.bit_length())
    for number, unit in enumerate(units):
        start, end, form, before, prefix, opened, closed = unit
        paragraph += before == "blank"
        length = end - start
        head, signs = heads[number], classes[number]
        tail = text[max(start + HEAD, end - TAIL) : end] if length > HEAD else ""
        folded = head.casefold()
        words = _WORD.findall(folded)
        after = units[number + 1].before if number < last else "end"
        look, beginning = looks[number], starts[number]
        ending = text[end - 1]
        keys = [
            f"k={form}",
            f"b={before}",
            f"a={after}",
            f"ka={form}{before}{after}",
            f"s={look}",
            f"s3={beginning}",
            f"e={'a' if ending.isalpha() else '0' if ending.isdecimal() else ending}",
            f"n={length.bit_length()}",
            f"i={number if number < 8 else 8}",
            f"j={last - number if number > last - 8 else 8}",
            f"I={min(paragraph, 5)}",
            f"J={min(breaks - paragraph, 5)}",
            f"R={min(kinds[beginning], 16).bit_length()}{size}",
            f"N={size}",
        ]
        if prefix:
            keys.append(f"p={prefix}")
        if (marks := text[opened:start].strip()) and form != "tag":
            keys.append(f"o={marks[:3]}")
        if closed > end and (marks := text[end:closed].strip()):
            keys.append(f"z={marks[:3]}")
        if number and starts[number - 1] == beginning:
            keys.append("r-")
        if number < last and starts[number + 1] == beginning:
            keys.append("r+")
        if number in (first_question, last_question):
            keys.append("Z=only" if first_question == last_question else f"Z={number == last_question}")
        elif questions:
            keys.append("Z=after" if number > last_question else "Z=before" if number < first_question else "Z=in")
        if ending in "?？":
            keys.append("?")
        elif "? " in head or "? " in tail:
            keys.append("??")
        if form in ("label", "tag"):
            name = names_of[number]
            if name:
                met[name] += 1
                keys.append(f"O={min(often[name], 4)}{min(met[name], 3)}{met[name] == often[name]}")
            book = shapes.labels if form == "label" else shapes.tags
            known = book.get(name_of(name)) if name else None
            if form == "tag" and known is None and " " in name:
                name = name.split()[0]
                known = book.get(name_of(name))
            reading = known.reading if known else (name and reading_by_name(name.casefold())) or "?"
            mark = f"{'L' if known else 'N'}{reading}"
            keys.append(f"m={form}{mark}")
            if form == "label":
                label, since = mark, 0
            elif text.startswith(("</", "[/"), start):
                keys.append("m=end")
                if tags:
                    tags.pop()
            elif text[start] in "<[" and text[end - 2] != "/" and text[start + 1] not in "!?":
                tags.append((name, mark))
                del tags[:-8]
        else:
            since += 1
            if before == "blank" and since > 1:
                keys.append(f"gb={label}")
        if sides:
            keys.append(f"T={sides[number]}")
        if mails:
            heads_before += number in mails
            keys.append(f"M={min(heads_before, 2)}{min(len(mails) - heads_before, 2)}")
        if again[head] > 1 and length > SHORTEST_REPEAT:
            once_more[head] += 1
            keys.append(f"D={once_more[head] > 1:d}{once_more[head] < again[head]:d}")
        if number in asides:
            keys.append(f"B={asides[number]}")
        if form == "text" and before == "quote":
            quoted = True
        if quoted:
            keys.append("Q=in")
            quoted = closed == end
        keys.append(f"g={label}{min(since, 4)}")
        keys.append(f"t={tags[-1][1]}{min(len(tags), 3)}" if tags else "t=no")
        if words:
            first = words[0]
            keys += (f"^{first[:6]}", f"${words[-1][:6]}" if not tail else "$")
            if first in _CLASS_OF:
                keys.append(f"c={_CLASS_OF[first]}")
            if "you" in words or "your" in words:
                keys.append("c=you")
            if not head[0].islower() and len(words) > 2 and signs.count("A") * 2 > length:
                keys.append("upper")
        letters = sum(map(len, words))
        keys.append(f"l={int(4 * letters / len(head))}")
        keys.append(f"d={min(3, int(6 * signs.count('0') / len(head)))}")
        if tail:
            words += _WORD.findall(tail.casefold())
            keys.append(f"${words[-1][:6]}" if words else "$")
        if not head.isascii() and (characters := _CJK.findall(head)):
            keys.append("x=cjk")
            words += characters[:20]
            words += [a + b for a, b in pairwise(characters[:16])]
        elif not head.isascii():
            keys.append("x=other")
        keys += dict.fromkeys([word[:6] for word in words])
        seen.append(keys)
    return seen
