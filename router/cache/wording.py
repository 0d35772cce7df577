"""What a question says, without how it says it.

Only what is known to mean the same becomes the same: politeness, spelling, forms of numbers, units and dates, kinds of
question. Every other word stays as it is, so a word that is not known here can only keep two questions apart.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from router.cache import english
from router.cache.english import MONTHS, ORDINALS, POWERS, SMALL, TENS, UNITS, common, singular

# Longer prompts are hardly ever put in other words; reading them would take milliseconds of the event loop.
LONGEST = 1500

_TOKEN = re.compile(
    r"(?:(?<![^\s(])-)?\d+(?:,\d{3})+(?!\d)(?:\.\d+)?"
    r"|(?:(?<![^\s(])-)?\d+(?:\.\d+)*"
    r"|(?<!\S)\.[^\W\d_][^\W_]*"
    r"|[^\W\d_][^\W_]*(?:'[^\W\d_]+)*"
    r"|[^\s\w]|_"
)
_CODE = re.compile(r"[{}\[\]=<>`|\\~_\n]|;(?!\s[a-z])|\w\(")
_FORMULA = re.compile(r"[+*^#@≤≥≠±×÷√∑∫∞≈]|\w!\s|\)\s?[-/]|\d\s?[-/]\s?[(\d]|(?<!\S)\w\s?[-/]\s?\w(?!\S)")
_CASED = re.compile(rf"(?<![^\W\d_])(?:{'|'.join(map(re.escape, english.CASED_UNITS))})(?![^\W\d_])")
_QUOTED = re.compile(r"\"+[^\"]*\"+|(?<!\w)'[^']*'(?!\w)")
_CHOICE = re.compile(r"(?:\S+\s+){1,4}or\s+(?:\S+\s*){1,4}$", re.IGNORECASE)
_ANNOUNCED = re.compile(r"(?:^|[.!?]\s)[^.!?:]{0,20}\bquestion$", re.IGNORECASE)
_COUNTRY = re.compile(r"\bU\.S\.(?:A\.)?|\bUSA?\b")
_HALF_DAY = re.compile(r"\b([ap])\.m\.", re.IGNORECASE)
# Where wording is asked about, but the wording itself stands elsewhere.
_POINTED = re.compile(
    r"^[^.:!?]*\b(?:translate|rewrite|rephrase|paraphrase|proofread)\s+(?:(?:this|these|the|my)\s+(?:following\s+|whole\s+)?"
    r"(?:sentence|text|document|paragraph|page|email|letter|article|essay|book|chapter|menu)s?|chapter|page)\b[^.:!?\"']*[.!?]?$",
    re.IGNORECASE,
)
_SAYING = re.compile(r"\b(?:how|to)\b[^.!?]*\bsay\b", re.IGNORECASE)
_HYPHENATED = re.compile(r"\be-(?=mail|book|commerce)", re.IGNORECASE)
_QUOTES = str.maketrans({"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "«": '"', "»": '"', "„": '"'})
# Marks that say nothing in prose. In formulas every mark counts.
_SILENT_MARKS = frozenset("()\"'-*!:;") | {"\u2013", "\u2014", "\u2026"}


@dataclass(frozen=True, slots=True)
class Part:
    """Words in order behind what joins them to the rest: a preposition, a conjunction; for the first part nothing."""

    joint: str
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Wording:
    """``parts`` in common order; where ``bound``, their order is part of what they say."""

    parts: tuple[Part, ...]
    bound: bool

    def flat(self) -> list[str]:
        """All words in order, joints among them."""
        return [word for part in self.parts for word in ((part.joint, *part.words) if part.joint else part.words)]


def plain(text: str) -> str:
    """``text`` but for letter case, spacing and the last stop: what is compared where it is not read.

    In code, and of units that differ in nothing else, case counts.
    """
    words = text.split()
    if not _CODE.search(text):
        words = [word if _CASED.search(word) else word.lower() for word in words]
    return " ".join(words).rstrip(" .?!")


def read(text: str) -> Wording | None:
    """What an English question says; ``None`` for other languages, code and texts longer than `LONGEST` characters."""
    if len(text) > LONGEST:
        return None
    text = unicodedata.normalize("NFC", text).translate(_QUOTES).strip()
    if _CODE.search(text) or not _latin(text):
        return None
    text = _HYPHENATED.sub("e", text)
    text = _HALF_DAY.sub(r"\1m", text)
    if not text.isupper():
        text = _COUNTRY.sub("usa", text)
    formula = _FORMULA.search(text) is not None
    words = _dated(_words(text, formula))
    if not _english(words):
        return None
    if _SAYING.search(text) or (any(word.form in english.WORDING for word in words) and not _POINTED.search(text)):
        return _literal(words)
    sentences = [_Sentence.read(piece) for piece in _pieces(words)]
    sentences = _question_first([sentence for sentence in sentences if sentence.parts])
    bound = formula or len(sentences) > 1 or any(sentence.bound for sentence in sentences)
    return Wording(tuple(part for sentence in sentences for part in sentence.parts), bound)


# --- words -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Word:
    """``form`` is common to all spellings; ``written`` is lower case."""

    form: str
    written: str

    @property
    def number(self) -> bool:
        return self.form.startswith("#")


def _latin(text: str) -> bool:
    """Whether all letters are of the alphabet that English uses, and no mark hangs on a letter."""
    if text.isascii():
        return True
    return not any(
        (letter.isalpha() and letter > "\u024f") or unicodedata.category(letter)[0] == "M"
        for letter in text
        if not letter.isascii()
    )


def _english(words: list[_Word]) -> bool:
    written = [word.written for word in words]
    known = sum(word in english.MARKS_OF_ENGLISH for word in written)
    return known > sum(word in english.MARKS_OF_OTHERS for word in written)


def _words(text: str, formula: bool) -> list[_Word]:
    """Words, numbers, and the marks that say something, commas and stops among them."""
    words: list[_Word] = []
    shouted = text.isupper()
    literal_from = _literal_from(text)
    quotes = [match.span() for match in _QUOTED.finditer(text)]
    for match in _TOKEN.finditer(text):
        token, start, end = match[0], match.start(), match.end()
        if start >= literal_from or any(first <= start < last for first, last in quotes):
            # Words that are talked about are no grammar: "was" and "the" count.
            if token not in _SILENT_MARKS:
                words.append(_Word('"' + token.lower(), token.lower()))
        elif token[0].isdigit() or token[-1].isdigit() and token[0] == "-":
            words.append(_Word("#" + token.replace(",", ""), token))
        elif token[0].isalpha() or len(token) > 1:
            glued = start > 0 and text[start - 1].isdigit()
            words += _spelled(token, words[-1] if words else None, glued, shouted)
            if glued and words[-1].form == "":
                suffix = words.pop()
                words[-1] = _Word(words[-1].form + suffix.written, words[-1].written)
        elif token in ".?!" and (end == len(text) or not formula):
            if end == len(text) or text[end].isspace():
                words.append(_Word(".", token))
        elif token == ":" and not formula:
            words.append(_Word(",", ","))
        elif token in "-\u2013\u2014" and not formula and (token != "-" or text[start - 1 : end + 1] == " - "):
            words.append(_Word(",", ","))
        elif formula or token not in _SILENT_MARKS:
            words.append(_Word(UNITS.get(token, token), token))
    return words


def _literal_from(text: str) -> int:
    """Where a colon ends the question and the text that it is about begins."""
    for match in re.finditer(r":\s", text):
        if not _CHOICE.fullmatch(text, match.end()) and not _ANNOUNCED.search(text, 0, match.start()):
            return match.end()
    return len(text)


def _spelled(token: str, before: _Word | None, glued: bool, shouted: bool) -> Iterator[_Word]:
    """The words of a token between spaces: contractions become two. ``glued``: a digit stands right before it."""
    lower = token.lower()
    if glued and lower in ("st", "nd", "rd", "th", "s"):
        # An empty form: the caller joins it to the number, so that "2nd" is neither "2" nor "second 2".
        yield _Word("", "th" if lower != "s" else "s")
        return
    after_number = before is not None and (before.number or before.written == "/" or before.form == "degree")
    if after_number and token in english.CASED_UNITS:
        for part in english.CASED_UNITS[token].split():
            yield _Word(part, lower)
        return
    unit = UNITS.get(lower) or UNITS.get(singular(lower))
    if unit is not None and (after_number or len(lower) > 3 or lower in ("kg", "km", "cm", "lbs", "kwh", "mph")):
        for part in unit.split():
            yield _Word(part, lower)
        return
    lower = english.CONTRACTIONS.get(lower, lower)
    head, apostrophe, tail = lower.partition("'")
    if lower.endswith("n't"):
        stem = {"ca": "can", "wo": "will", "sha": "shall"}.get(lower[:-3], lower[:-3])
        yield _Word(common(stem), stem)
        yield _Word("not", "not")
        return
    if lower in ("cannot",):
        yield from (_Word("can", "can"), _Word("not", "not"))
        return
    if token == "A" and before is not None and before.form not in (".", ",") and not shouted:
        # Vitamin A, plan A.
        yield _Word('"a', "a")
        return
    if shouted or not re.search(r"[A-Z]{2}s?$", token):
        yield _Word(common(head), head)
    elif token.isupper() and english.grammatical(head):
        # The IT of a company, the WHO.
        yield _Word('"' + head, head)
    else:
        yield _Word(head.removesuffix("s") if token[-1] == "s" else english.COMMON.get(head, head), head)
    if apostrophe and tail == "s":
        yield _Word("be", "is") if head in english.SHORT_IS else _Word("'s", "'s")
    elif apostrophe:
        yield _Word(english.ENDINGS.get(tail, tail), tail)


def _dated(words: list[_Word]) -> list[_Word]:
    """Numbers in words become digits; days stand behind their month, currencies behind their amount."""
    result: list[_Word] = []
    tens = -1
    for place, word in enumerate(words):
        before = result[-1] if result else _Word("", "")
        after = words[place + 1] if place + 1 < len(words) else _Word("", "")
        form, written = word.form, word.written
        if form == "one" and before.form in (
            "which",
            "no",
            "every",
            "any",
            "each",
            "some",
            "do",
            "can",
            "would",
            "for",
        ):
            pass
        elif form == "a" and written == "a" and (not after.form or after.form in english.JOINTS or after.form in ".,"):
            # Vitamin A, plan A.
            form = '"a'
        elif form in english.MOODS and before.form == "a":
            # A will, a can.
            form = '"' + form
        elif form in SMALL:
            if tens == len(result) - 1 and result and 0 < SMALL[form] < 10:
                form = f"#{int(result.pop().form[1:]) + SMALL[form]}"
            else:
                form = f"#{SMALL[form]}"
        elif form in TENS:
            form, tens = f"#{TENS[form]}", len(result)
        elif form in POWERS and before.number and not before.form.endswith(("th", "s")):
            form = f"#{_times(result.pop().form[1:], POWERS[form])}"
        elif form == "dozen":
            form = f"#{12 * int(result.pop().form[1:])}" if before.form[1:].isdigit() else "#12"
        elif form in ("twice", "once", "thrice"):
            result.append(_Word(f"#{('once', 'twice', 'thrice').index(form) + 1}", written))
            form = "time"
        elif form == "second" and (before.number or before.form in ("per", "/")):
            pass
        elif form in ORDINALS:
            form = f"#{ORDINALS[form]}th"
        elif form == "may" and not (
            before.form in english.BEFORE_MONTH or before.number or after.number and before.form != "i"
        ):
            pass
        elif written in english.SHORT_MONTHS and (before.number or after.number):
            form = english.SHORT_MONTHS[written]
        elif form == "degree" and UNITS.get(after.written) in ("celsius", "fahrenheit", "k"):
            continue
        elif form == "a" and before.form in english.UNIT_WORDS | {"day"} and after.form in english.UNIT_WORDS:
            form = "per"
        elif form == "/" and before.form in english.UNIT_WORDS:
            form = "per"
        elif form in ("over", "above") and after.number:
            result.append(_Word("more", written))
            form = "than"
        elif form in ("under", "below") and after.number:
            result.append(_Word("less", written))
            form = "than"
        elif form == "fewer" and after.form == "than":
            form = "less"
        elif written in ("a", "an") and after.form in english.UNIT_WORDS | english.TIMES:
            # "Two glasses a day", "in a pint"
            counted = any(earlier.number or earlier.form in ("how", "once", "twice") for earlier in result)
            form = "per" if counted and after.form in english.TIMES else form if after.form in english.TIMES else "#1"
        if before.form == "per" and (form in english.UNIT_WORDS or form in english.DATES):
            result[-1] = _Word(f"per-{form}", written)
            continue
        if form in MONTHS and before.form.endswith("th") and before.number:
            result[-1] = _Word(form, written)
            result.append(_Word(before.form.removesuffix("th"), before.written))
        elif form in MONTHS and before.number and before.form[1:].isdigit() and int(before.form[1:]) <= 31:
            result[-1] = _Word(form, written)
            result.append(before)
        elif word.number and before.form in MONTHS and form.endswith("th"):
            result.append(_Word(form.removesuffix("th"), written))
        elif word.number and before.written in "$€£¥" and before.written:
            result[-1] = _Word(form, written)
            result.append(before)
        else:
            result.append(_Word(form, written))
    return result


def _times(number: str, power: int) -> str:
    try:
        product = Decimal(number) * power
    except ArithmeticError:
        return f"{number}*{power}"
    return str(int(product)) if product == int(product) else str(product)


# --- sentences -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Sentence:
    parts: tuple[Part, ...]
    asks: bool
    bound: bool

    @classmethod
    def read(cls, words: list[_Word]) -> _Sentence:
        past, forms = _tensed(words)
        forms = _phrased(_rotated(forms))
        forms = _framed(_courteous(forms))
        if not forms:
            return cls((), False, False)
        frame = forms[0] if forms[0].startswith("?") else ""
        frame, forms = _turned(frame, forms[1:] if frame else forms)
        main = next((place for place, form in enumerate(forms) if form in english.CLAUSES), len(forms))
        passive = "be" in forms[:main] or frame == "?by-who"
        hoisted, forms = _hoisted(_timed(forms), frame)
        moods = {english.MOODS[form] for form in forms if form in english.MOODS}
        able = "~can" in moods
        if frame in english.MOODLESS:
            moods.discard("~can")
        if past:
            moods.add("~past")
        spoken = _spoken(_possessed(forms), frame)
        bound = bool(hoisted) or any(form in english.BINDING for form in spoken)
        parts = _compounded(_judged(_measured(_parts(spoken)), frame))
        if passive:
            frame, parts = _active(frame, parts, moods, able)
        if frame == "?howto":
            parts = [Part(part.joint, tuple(word for word in part.words if word not in english.OWN)) for part in parts]
        parts = [Part(part.joint, _commuted(part, start=not part.joint)) for part in parts]
        start = ((frame,) if frame else ()) + tuple(sorted(moods)) + tuple(hoisted)
        parts = [Part("", start + parts[0].words), *parts[1:]] if not parts[0].joint else [Part("", start), *parts]
        return cls(tuple(part for part in parts if part.joint or part.words), bool(frame), bound)


def _pieces(words: list[_Word]) -> Iterator[list[_Word]]:
    """Sentences; "it is raining, what do I wear" counts as two."""
    piece: list[_Word] = []
    for place, word in enumerate(words):
        after = words[place + 1].written if place + 1 < len(words) else ""
        told = piece and piece[0].written not in english.STARTERS and piece[0].form not in english.JOINTS
        if word.form == ".":
            yield piece
            piece = []
        elif word.form == "," and told and len(piece) > 2 and after in english.QUESTION_WORDS:
            yield piece
            piece = []
        else:
            piece.append(word)
    yield piece


def _question_first(sentences: list[_Sentence]) -> list[_Sentence]:
    """A circumstance and a question about it are the question under that condition."""
    if len(sentences) != 2 or sentences[0].asks == sentences[1].asks:
        return sentences
    question, told = sorted(sentences, key=lambda sentence: not sentence.asks)
    first, *rest = told.parts
    condition = first if first.joint else Part("if", first.words)
    return [question, _Sentence((condition, *rest), False, told.bound)]


def _tensed(words: list[_Word]) -> tuple[bool, list[str]]:
    """Whether the main clause is told of the past, and all forms; other clauses of the past say so themselves."""
    past, forms = False, []
    start = 0
    for place in range(1, len(words) + 1):
        if place < len(words) and words[place].form not in english.CLAUSES and words[place - 1].form != ",":
            continue
        clause = words[start:place]
        told, start = _past(clause), place
        clause_forms = _without_perfect(clause)
        if clause[0].form in english.CLAUSES and (
            forms or clause[0].form not in english.ASKING or clause[-1].form == ","
        ):
            forms += [clause_forms[0], *(["~past"] if told else []), *clause_forms[1:]]
        else:
            past = past or told
            forms += clause_forms
    return past, forms


def _past(words: list[_Word]) -> bool:
    if any(word.written in english.PAST_AUXILIARIES for word in words) or _perfect_at(words) is not None:
        return True
    if any(word.form in english.AUXILIARIES for word in words):
        return False
    return any(_participle(word.written) for word in words)


def _participle(written: str) -> bool:
    if written in english.LEMMAS:
        return True
    return len(written) > 4 and written.endswith("ed") and written not in english.NOT_PARTICIPLES


def _perfect_at(words: list[_Word]) -> int | None:
    """Where a "have" only makes a tense."""
    for place, word in enumerate(words):
        if word.form == "have":
            for later in words[place + 1 : place + 6]:
                if later.written == "got":
                    break
                if later.written == "been" or _participle(later.written):
                    return place
                if later.form in english.PREPOSITIONS - {"of"} or later.form == "," or later.number:
                    break
    return None


def _without_perfect(words: list[_Word]) -> list[str]:
    place = _perfect_at(words)
    forms = [word.form for word in words]
    if place is not None:
        forms[place] = "do"
    return forms


def _rotated(forms: list[str]) -> list[str]:
    """What stands before the question ("in Germany, may I …") and a choice behind it ("…, tea or coffee") in order."""
    if "," not in forms:
        return forms
    circumstance = forms[0] in english.JOINTS or forms[0] in english.DATES or forms[0] in ("this", "next", "last")
    for place, form in enumerate(forms):
        after = forms[place + 1] if place + 1 < len(forms) else ""
        if form == "," and circumstance and (after in english.STARTERS or after in english.REQUESTS):
            forms = [*forms[place + 1 :], *forms[:place]]
            break
    last = max((place for place, form in enumerate(forms) if form == ","), default=0)
    choice = forms[last + 1 :]
    if last and choice.count("or") == 1 and len(choice) < 8 and not any(form in english.JOINTS for form in choice):
        forms = [*forms[:last], "which-of", *choice]
    return [form for form in forms if form != ","]


def _phrased(forms: list[str]) -> list[str]:
    result: list[str] = []
    place = 0
    while place < len(forms):
        found = english.PHRASES.at(forms, place)
        if found is None:
            result.append(forms[place])
            place += 1
        else:
            result += found[1]
            place += found[0]
    return result


def _courteous(forms: list[str]) -> list[str]:
    """Without what is only polite, at the beginning and at the end."""
    asked = False
    while forms:
        found = english.POLITE.at(forms, 0)
        told = english.EXPLAINING.at(forms, 0)
        if told is not None and forms[told[0] : told[0] + 1] and forms[told[0]] in english.ASKING:
            forms, asked = forms[told[0] :], True
        elif found is not None:
            forms, asked = forms[found[0] :], True
        elif forms[:2] in (["can", "you"], ["will", "you"], ["would", "you"]):
            verb = next((form for form in forms[2:4] if form not in ("please", "kindly")), "")
            if verb not in english.REQUESTS:
                break
            forms = forms[2:]
        else:
            break
    if len(forms) > 2 and forms[0] in english.REQUESTS and forms[1] == "i" and forms[0] not in english.TELLING:
        # "Plan me a trip"
        del forms[1]
    while forms and forms[-1] in ("please", "thank"):
        forms = forms[:-1]
    if forms and (forms[0] == "whether" or (forms[0] == "if" and asked)):
        return ["?is", *forms[1:]]
    return forms


def _framed(forms: list[str]) -> list[str]:
    """The kind of question as the first word."""
    forms = [form for form in forms if form not in ("please", "kindly")]
    if not forms:
        return forms
    if forms[0].startswith("?"):
        return forms
    if forms[0] in english.PREPOSITIONS and forms[1:2] in (["what"], ["which"], ["who"]) and forms[2:3] == ["be"]:
        # "For what is it famous"
        forms = [*forms[1:], forms[0]]
    denied = forms[0] in english.AUXILIARIES and forms[1:2] == ["not"]
    if denied:
        # "Should not I" as "should I not".
        forms = [forms[0], *forms[2:]]
    found = english.FRAMES.at(forms, 0)
    if found is not None:
        forms = found[1] + (["not"] if denied else []) + forms[found[0] :]
        if len(forms) > 1 and forms[0] == "?list" and forms[1] == "some":
            del forms[1]
        if forms[0].endswith("-you"):
            rest = [form for form in forms[1:] if form not in english.SILENT]
            general = len(rest) > 1 and rest[0] not in english.MIND
            kind = forms[0].removesuffix("-you")
            forms = ([kind] if general else [kind.removesuffix("to"), "you"]) + forms[1:]
        return forms
    if forms[0] in ("be", "do", "have", *english.MOODS):
        return ["?is", forms[0], *(["not"] if denied else []), *forms[1:]]
    return [forms[0], "not", *forms[1:]] if denied else forms


def _turned(frame: str, forms: list[str]) -> tuple[str, list[str]]:
    """Questions with the same sense in other constructions: "what does it mean", "what effect does it have"."""
    ends = next((place for place, form in enumerate(forms) if form in english.JOINTS), len(forms))
    if frame == "?which" and "be" in forms[1:]:
        verb = forms.index("be", 1)
        told = [form for form in forms[verb + 1 :] if form != "a"]
        superlative = 2 if told[:1] in (["most"], ["least"]) else 1 if told and english.superlative(told[0]) else 0
        if superlative and (len(told) == superlative or (verb < 3 and told[superlative] in english.JOINTS)):
            return "?what", [*told[:superlative], *forms[:verb], *told[superlative:]]
    if frame in ("?what", "?which") and "do" in forms[1:ends]:
        verb = forms.index("do", 1)
        if forms[ends - 1] == "have" and ends - 2 > verb:
            return "?what", [*forms[:verb], "of", *forms[verb + 1 : ends - 1], *forms[ends:]]
    if frame in ("?what", "?which") and forms[:1] == ["do"] and forms[-1] in ("mean", "cost"):
        if forms[-1] == "mean":
            return "?meaning", forms[1:-1]
        frame, ends = "?how-much", len(forms)
    if frame == "?how-much":
        if forms[ends - 1 : ends] == ["cost"]:
            forms = [*forms[: ends - 1], *forms[ends:]]
        elif forms[-1:] == ["cost"]:
            forms = forms[:-1]
        amount = next((form for form in forms if form not in english.SILENT), "")
        return ("?what" if amount.startswith("#") else frame), forms
    getting = next((place for place, form in enumerate(forms[:-1]) if form == "get"), 0)
    if getting and frame in ("?when", "?how", "?where", "?why", "?is") and english.participle(forms[getting + 1]):
        forms = [*forms[:getting], "be", *forms[getting + 1 :]]
    doing = next((place for place, form in enumerate(forms[:-1]) if english.gerund(form)), 0)
    if frame == "?how" and doing and forms[-1] == "take":
        return frame, [*forms[:doing], "take", "to", *forms[doing:-1]]
    if frame in ("", "?is") and forms[:1] == ["do"] and forms[-1] == "exist":
        return "?is-there", [form for form in forms[1:-1] if form != "any"]
    return frame, forms


def _timed(forms: list[str]) -> list[str]:
    """ "Open Sundays" as open on Sundays."""
    result: list[str] = []
    for form in forms:
        free = not result or result[-1] not in english.JOINTS | english.SCOPES | {"this", "next", "last", "first", "a"}
        if form in english.WEEKDAYS and free and result and not result[-1].startswith("#"):
            result.append("on")
        result.append(form)
    return result


def _hoisted(forms: list[str], frame: str) -> tuple[list[str], list[str]]:
    """The one "not" or "always" of a plain question, and the rest: its place ("doesn't it start") says nothing."""
    hoisted = [form for form in forms if form == "not" or form in english.FREQUENCIES]
    if not frame or len(hoisted) != 1:
        return [], forms
    ends = next((place for place, form in enumerate(forms) if form in english.JOINTS), len(forms))
    last = hoisted[0] == forms[-1] and hoisted[0] != "not"
    told = forms if last else forms[:ends]
    scoped = any(form in english.SCOPES for form in told) or (last and any(form in english.CLAUSES for form in told))
    if scoped or not (last or hoisted[0] in told):
        return [], forms
    return hoisted, [form for form in forms if form != hoisted[0]]


def _possessed(forms: list[str]) -> list[str]:
    """ "The cat's tail" as the tail of the cat; "yesterday's news" as the news yesterday."""
    while "'s" in forms:
        place = forms.index("'s")
        start = place - 2 if place > 1 and forms[place - 2] in english.OWN else place - 1
        if start < 0:
            return forms
        ends = next(
            (later for later in range(place + 1, len(forms)) if forms[later] in english.JOINTS or forms[later] == "'s"),
            len(forms),
        )
        owner = forms[start:place]
        joined = (
            owner
            if owner[-1] in ("today", "tomorrow", "yesterday", "tonight")
            else [("on" if owner[-1].endswith("day") else "of"), *owner]
        )
        forms = [*forms[:start], *forms[place + 1 : ends], *joined, *forms[ends:]]
    return forms


def _measured(parts: list[Part]) -> list[Part]:
    """ "A poem of 12 lines" as a 12 line poem."""
    result: list[Part] = []
    for part in parts:
        length = _measure(part) if result and result[-1].words else 0
        if not length and part.joint == "of" and result and _measure(Part("of", result[-1].words[-2:])):
            # "5 kg of rice"
            result[-1] = Part(result[-1].joint, result[-1].words + part.words)
        elif length:
            *others, noun = result[-1].words
            result[-1] = Part(result[-1].joint, (*others, *part.words[:length], noun, *part.words[length:]))
        else:
            result.append(part)
    return result


def _compounded(parts: list[Part]) -> list[Part]:
    """ "The history of Rome" as the Rome history; a cup of tea stays one."""
    result: list[Part] = []
    for part in parts:
        if part.joint == "of" and part.words and result and result[-1].words:
            *others, noun = result[-1].words
            if noun in english.DATES and part.words[0].startswith("#"):
                # "Summer of 1999"
                result[-1] = Part(result[-1].joint, result[-1].words + part.words)
                continue
            if noun not in english.VESSELS and noun not in english.BINDING and not noun.startswith(("#", "?", '"')):
                result[-1] = Part(result[-1].joint, (*others, *part.words, noun))
                continue
        result.append(part)
    return result


def _infinitive(part: Part) -> list[Part]:
    """ "Than buying" as "than to buy"."""
    if part.joint == "than" and part.words and english.gerund(part.words[0]):
        return [Part("than", ()), Part("to", part.words)]
    return [part]


def _measure(part: Part) -> int:
    """How many words at the beginning of ``part`` are an amount of something."""
    if len(part.words) < 2 or not part.words[0].startswith("#"):
        return 0
    if part.joint == "in" and part.words[1] == "word":
        return 2
    if part.joint != "of":
        return 0
    if part.words[1] in english.UNIT_WORDS:
        return 3 if part.words[2:3] and part.words[2].startswith("per-") else 2
    return 2 if len(part.words) == 2 else 0


def _judged(parts: list[Part], frame: str) -> list[Part]:
    """ "Is swimming there safe" as "is it safe to swim there"; "for swimming" as "to swim"."""
    parts = [
        Part("to", part.words) if part.joint == "for" and part.words and english.gerund(part.words[0]) else part
        for part in parts
    ]
    if frame in english.CONDITIONAL and not (parts[0].words and parts[0].words[-1] in english.MIND):
        parts = [Part("if" if part.joint == "when" else part.joint, part.words) for part in parts]
    parts = [
        Part(part.joint, part.words[1:])
        if part.joint in ("before", "after", "while", "when") and part.words[:1] == ("i",)
        else part
        for part in parts
    ]
    first = parts[0]
    if frame != "?is" or first.joint or not first.words or not english.gerund(first.words[0]):
        return parts
    for place, part in enumerate(parts):
        if part.words and part.words[-1] in english.JUDGEMENTS and place in (0, len(parts) - 1):
            parts = [*parts[:place], Part(part.joint, part.words[:-1]), *parts[place + 1 :]]
            parts = [one for part in parts for one in _infinitive(part)]
            return [Part("", (part.words[-1],)), Part("to", parts[0].words), *parts[1:]]
    return parts


def _spoken(forms: list[str], frame: str) -> list[str]:
    """Without words that only serve grammar."""
    result: list[str] = []
    for place, form in enumerate(forms):
        after = forms[place + 1] if place + 1 < len(forms) else ""
        before = forms[place - 1] if place else ""
        if form in english.MOODS or (form in english.SILENT and (form, before) != ("do", "to")):
            continue
        if form in english.FILLERS and (before in english.AUXILIARIES or after in english.AUXILIARIES or not before):
            continue
        if form in ("this", "that", "these", "those") and after not in english.DATES:
            continue
        if form in ("which", "who") and result and result[-1] not in english.PREPOSITIONS:
            continue
        if form == "any" and (frame == "?is-there" or after in english.COMPARISONS or after.endswith("er")):
            continue
        result.append(form)
    return result


def _parts(forms: list[str]) -> list[Part]:
    parts: list[Part] = []
    joint, words = "", []
    for form in forms:
        if form in english.JOINTS:
            parts.append(Part(joint, tuple(words)))
            joint, words = form, []
        else:
            words.append(form)
    parts.append(Part(joint, tuple(words)))
    return parts


def _active(frame: str, parts: list[Part], moods: set[str], able: bool) -> tuple[str, list[Part]]:
    """A passive sentence as the active one: "why was B met by A" as "why did A meet B"."""
    first, *rest = parts
    if first.joint or not first.words or not english.participle(first.words[-1]):
        return frame, parts
    *patient, verb = first.words
    if frame == "?who" and rest and rest[0] == Part("by", ()):
        frame, rest = "?by-who", rest[1:]
    manner = [patient.pop()] if patient and (patient[-1].endswith("ly") or patient[-1] in english.QUANTITIES) else []
    if frame == "?by-who":
        return "?who", [Part("", (verb, *patient)), *rest]
    for place, part in enumerate(rest):
        if part.joint == "by" and part.words and patient and english.agent(part.words[0]):
            others = rest[:place] + rest[place + 1 :]
            return frame, [Part("", (*part.words, *manner, verb, *patient)), *others]
    patient += manner
    if frame in ("?how", "?where") and able:
        moods.discard("~can")
        return "?howto" if frame == "?how" else frame, [Part("", (verb, *patient)), *rest]
    asked = moods & {"~can", "~should", "~must"}
    if frame == "?is" and patient and len(asked) == 1:
        mood = asked.pop()
        moods.discard(mood)
        return "?" + mood[1:], [Part("", (verb, *patient)), *rest]
    if frame in ("?what", "?which") and patient:
        return frame, [Part("", (*patient, "people", verb)), *rest]
    if frame in ("?how", "?where", "?when", "?why", "?is") and patient:
        return frame, [Part("", ("people", verb, *patient)), *rest]
    return frame, parts


def _commuted(part: Part, start: bool) -> tuple[str, ...]:
    """ "A and B" in one order, where nothing else belongs to one of them."""
    words = part.words
    joined = [place for place, word in enumerate(words) if word in ("and", "or")]
    if len(joined) != 1:
        return words
    place = joined[0]
    left, right, rest = words[:place], words[place + 1 :], ()
    if start:
        if place != 1 and not (place == 2 and words[0] in ("compare", "both", "either", "neither")):
            return words
        left, right, rest = words[place - 1 : place], words[place + 1 : place + 2], words[place + 2 :]
    if any(word in english.DATES or word.startswith("#") for word in left + right):
        return words
    first, last = sorted((left, right))
    return (words[: place - 1] if start else ()) + first + (words[place],) + last + rest


def _literal(words: list[_Word]) -> Wording:
    """Where a text is about wording, every word counts as it is written."""
    forms = _courteous([word.form for word in words if word.form not in (",", ".")])
    skipped = sum(word.form not in (",", ".") for word in words) - len(forms)
    written = [word.written for word in words if word.form not in (",", ".")][skipped:]
    return Wording((Part("", tuple(written)),), bound=True)
