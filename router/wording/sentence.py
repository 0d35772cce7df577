"""What one sentence says, in the construction that stands for all with the same sense.

A sentence is read from left to right by steps, each of which undoes one way to say the same otherwise. A step that does
not recognise its construction changes nothing; then two questions stay apart, which costs a call and no wrong answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from triton_router.wording import english
from triton_router.wording.turns import DATIVE, turned
from triton_router.wording.words import Word

_WITH_DAY = english.JOINTS | english.SCOPES | {"this", "next", "last", "first", "a"}


class Part(NamedTuple):
    """Words in order behind what joins them to the rest: a preposition, a conjunction; for the first part nothing."""

    joint: str
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sentence:
    parts: tuple[Part, ...]
    asks: bool
    bound: bool

    @classmethod
    def read(cls, words: list[Word]) -> Sentence:
        past, forms = _tensed(words)
        forms = _phrased(_rotated(forms))
        forms = _framed(courteous(forms))
        if not forms:
            return cls((), False, False)
        frame = forms[0] if forms[0].startswith("?") else ""
        frame, forms = turned(*_turned(frame, forms[1:] if frame else forms))
        if "~past" in forms[:1]:
            past, forms = True, forms[1:]
        main = next((place for place, form in enumerate(forms) if form in english.CLAUSES), len(forms))
        passive = "be" in forms[:main] or frame == "?by-who"
        passive = passive or (frame == "?what" and bool(forms) and english.participle(forms[0]))
        hoisted, forms = _hoisted(_timed(forms), frame)
        moods = {english.MOODS[form] for form in forms if form in english.MOODS}
        if len(moods) > 1:
            # Which of two is said of what is told by their places.
            forms, moods = [english.MOODS.get(form, form) for form in forms], set()
        able = "~can" in moods
        if frame in english.MOODLESS:
            moods.discard("~can")
        if past:
            moods.add("~past")
        spoken = _spoken(_possessed(forms), frame)
        bound = bool(hoisted) or any(form in english.BINDING for form in spoken)
        parts = _compounded(_given(_judged(_measured(_parts(spoken)), frame)))
        if passive:
            frame, parts = _active(frame, parts, moods, able)
        if frame == "?howto":
            parts = [Part(part.joint, tuple(word for word in part.words if word not in english.OWN)) for part in parts]
        parts = [Part(part.joint, _commuted(part, start=not part.joint)) for part in parts]
        start = ((frame,) if frame else ()) + tuple(sorted(moods)) + tuple(hoisted)
        parts = [Part("", start + parts[0].words), *parts[1:]] if not parts[0].joint else [Part("", start), *parts]
        return cls(tuple(part for part in parts if part.joint or part.words), bool(frame), bound)


def _tensed(words: list[Word]) -> tuple[bool, list[str]]:
    """Whether the main clause is told of the past, and all forms; other clauses of the past say so themselves."""
    past, start = False, 0
    forms: list[str] = []
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


def _past(words: list[Word]) -> bool:
    if any(word.written in english.PAST_AUXILIARIES for word in words) or _perfect_at(words) is not None:
        return True
    if any(word.form in english.AUXILIARIES for word in words):
        return False
    return any(_participle(word.written) for word in words)


def _participle(written: str) -> bool:
    if written in english.LEMMAS:
        return True
    return len(written) > 3 and written.endswith("ed") and written not in english.NOT_PARTICIPLES


def _perfect_at(words: list[Word]) -> int | None:
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


def _without_perfect(words: list[Word]) -> list[str]:
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


def courteous(forms: list[str]) -> list[str]:
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
    if (
        forms[0] in english.PREPOSITIONS
        and forms[1:2] in (["what"], ["which"], ["who"])
        and len(forms) > 3
        and english.FRAMES.at(forms, 0) is None
    ):
        # "In which country is it" as which country it is in.
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
        if form in english.WEEKDAYS and result and result[-1] not in _WITH_DAY and not result[-1].startswith("#"):
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
    told = forms if last or hoisted[0] != "not" else forms[:ends]
    scoped = any(form in english.SCOPES for form in told) or any(form in english.CLAUSES for form in told)
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
    joint = ""
    words: list[str] = []
    for form in forms:
        if form in english.JOINTS:
            parts.append(Part(joint, tuple(words)))
            joint, words = form, []
        else:
            words.append(form)
    parts.append(Part(joint, tuple(words)))
    return parts


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


def _infinitive(part: Part) -> list[Part]:
    """ "Than buying" as "than to buy"."""
    if part.joint == "than" and part.words and english.gerund(part.words[0]):
        return [Part("than", ()), Part("to", part.words)]
    return [part]


def _given(parts: list[Part]) -> list[Part]:
    """ "Lend money to Anna" as lend Anna money."""
    for place in range(1, len(parts)):
        before, part = parts[place - 1], parts[place]
        verb = next((at for at, word in enumerate(before.words) if word in DATIVE), None)
        if part.joint == "to" and part.words and verb is not None and len(before.words) > verb + 1:
            words = (*before.words[: verb + 1], *part.words, *before.words[verb + 1 :])
            return [*parts[: place - 1], Part(before.joint, words), *parts[place + 1 :]]
    return parts


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


def _measure(part: Part) -> int:
    """How many words at the beginning of ``part`` are an amount of something."""
    if len(part.words) < 2 or not part.words[0].startswith("#"):
        return 0
    if part.joint == "in" and part.words[1] == "word":
        return 2
    if part.joint == "with" and len(part.words) == 2:
        return 2
    if part.joint != "of":
        return 0
    if part.words[1] in english.UNIT_WORDS:
        return 3 if part.words[2:3] and part.words[2].startswith("per-") else 2
    return 2 if len(part.words) == 2 else 0


def _compounded(parts: list[Part]) -> list[Part]:
    """ "The history of Rome" as the Rome history; a cup of tea stays one."""
    result: list[Part] = []
    for part in parts:
        joined = part.joint == "of" or (
            part.joint == "for" and bool(result and result[-1].words) and result[-1].words[-1] in english.RELATIONAL
        )
        if joined and part.words and result and result[-1].words:
            *others, noun = result[-1].words
            if noun in english.DATES and part.words[0].startswith("#"):
                # "Summer of 1999"
                result[-1] = Part(result[-1].joint, result[-1].words + part.words)
                continue
            if noun in english.OF_VERBS:
                result.append(part)
                continue
            if noun not in english.VESSELS and noun not in english.BINDING and not noun.startswith(("#", "?", '"')):
                result[-1] = Part(result[-1].joint, (*others, *part.words, noun))
                continue
        result.append(part)
    return result


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
    if frame in ("?what", "?which") and not patient:
        for place, part in enumerate(rest):
            if part.joint == "by" and part.words and english.agent(part.words[0]):
                # "What is expected of A by B"
                others = rest[:place] + rest[place + 1 :]
                given = others[0].words if others and others[0].joint == "to" else ()
                return frame, [Part("", (*part.words, verb, *given)), *(others[1:] if given else others)]
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
    if frame in ("?what", "?which") and patient and not any(word.startswith("#") for word in patient):
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
    left, right = words[:place], words[place + 1 :]
    rest: tuple[str, ...] = ()
    if start:
        if place != 1 and not (place == 2 and words[0] in ("compare", "both", "either", "neither")):
            return words
        left, right, rest = words[place - 1 : place], words[place + 1 : place + 2], words[place + 2 :]
    if any(word in english.DATES or word.startswith("#") for word in left + right):
        return words
    first, last = sorted((left, right))
    return (words[: place - 1] if start else ()) + first + (words[place],) + last + rest
