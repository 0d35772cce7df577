"""Questions with the same sense in other constructions, as one of them.

Each step looks at the forms of one sentence behind its frame, recognises one construction, and writes it as the other
one; what it does not recognise it leaves. Forms are common ones: `be` for *is*, `a` for *the*.
"""

from __future__ import annotations

from collections.abc import Callable

from triton_router.wording import english

Turned = tuple[str, list[str]]

# "Who is the inventor of it" is who invented it: by noun the verb, and whether that is told of the past whatever the
# question says. It is not where somebody can be now what another one was before: who directs the CIA, and who did.
AGENTS = {
    "author": ("write", True), "inventor": ("invent", True), "founder": ("found", True), "creator": ("create", True),
    "composer": ("compose", True), "discoverer": ("discover", True), "painter": ("paint", True),
    "builder": ("build", True), "killer": ("kill", True), "director": ("direct", False), "designer": ("design", False),
    "winner": ("win", False), "developer": ("develop", False), "owner": ("own", False),
    "publisher": ("publish", False), "producer": ("produce", False), "singer": ("sing", False),
    "maker": ("make", False),
}  # fmt: skip
# What takes a time. Of a bridge or a race "how long" asks something else.
EVENTS = frozenset(
    """
    flight drive trip journey ride movie film game match surgery operation course procedure process exam test recovery
    play show concert meeting ferry visit treatment pregnancy class lesson interview delivery shipping tour training
    """.split()  # noqa: SIM905
)
ALLOWED = frozenset(("ok", "fine", "possible", "acceptable", "allowed", "permitted", "alright"))
HOLDING = frozenset(("have", "contain", "include"))
ANYBODY = frozenset(("you", "i", "one", "we", "they", "someone", "anyone"))
# Verbs with two objects: "lend Anna money" is to lend money to Anna.
DATIVE = frozenset(
    "give lend send show teach write pay sell offer owe hand bring mail email read throw feed grant award".split()  # noqa: SIM905
)
# Of these there is one at a time, and who or what it is now is asked unless something else is said.
INCUMBENT = frozenset(
    """
    president ceo minister prime king queen pope champion population price record version exchange time temperature
    weather captain coach manager governor mayor chancellor leader capital chairman chairperson head
    """.split()  # noqa: SIM905
)
STOPPING = frozenset(("keep", "stop", "prevent", "deter"))
# What is generally so, will be so.
GENERAL = frozenset(("fit", "suffice", "cost", "take", "need", "last", "weigh", "happen", "contain", "have"))
WHATEVER = frozenset(("?how-many", "?how-much", "?how", "?is", "?which"))
# With or to something: all the same.
TOGETHER = frozenset(("connect", "pair", "link", "attach", "sync", "synchronize", "compare"))
BOUNDED = frozenset(("at-least", "at-most"))


def turned(frame: str, forms: list[str]) -> Turned:
    """``forms`` behind ``frame`` in the construction that stands for all with the same sense."""
    for step in _STEPS:
        frame, forms = step(frame, forms)
    return frame, forms


def _agent_asked(frame: str, forms: list[str]) -> Turned:
    """ "What is it caused by" as what causes it."""
    if frame not in ("?what", "?which", "?who") or forms[-1:] != ["by"]:
        return frame, forms
    done = next((place for place, form in enumerate(forms) if place and english.participle(form)), 0)
    if not done or any(form in english.CLAUSES for form in forms):
        return frame, forms
    patient = [form for form in forms[:done] if form != "be"]
    return frame, [forms[done], *patient, *forms[done + 1 : -1]]


def _held(frame: str, forms: list[str]) -> Turned:
    """ "How many calories does it have" as how many calories are in it."""
    if frame in ("?how-many", "?how-much") and forms[-1:] and forms[-1] in HOLDING and "do" in forms[1:-2]:
        place = forms.index("do", 1)
        return frame, [*forms[:place], "in", *forms[place + 1 : -1]]
    return frame, forms


def _agent_named(frame: str, forms: list[str]) -> Turned:
    """ "Who is the inventor of it" as who invented it."""
    said = [form for form in forms[:3] if form not in ("be", "a")]
    if frame != "?who" or not said or said[0] not in AGENTS or forms[:1] != ["be"]:
        return frame, forms
    place = forms.index(said[0])
    if forms[place + 1 : place + 2] != ["of"] or len(forms) < place + 3:
        return frame, forms
    verb, past = AGENTS[said[0]]
    return frame, [*(["~past"] if past else []), verb, *forms[place + 2 :]]


def _differing(frame: str, forms: list[str]) -> Turned:
    """ "How do A and B differ", "how is A different from B" as what the difference between A and B is."""
    if frame != "?how" or forms[:1] not in (["do"], ["be"]):
        return frame, forms
    rest = forms[1:]
    if rest[-1:] in (["differ"], ["different"]) and rest.count("and") == 1:
        return "?what", ["difference", "between", *rest[:-1]]
    for place in range(1, len(rest) - 2):
        if rest[place] in ("differ", "different") and rest[place + 1] == "from" and "and" not in rest:
            return "?what", ["difference", "between", *rest[:place], "and", *rest[place + 2 :]]
    return frame, forms


def _lasting(frame: str, forms: list[str]) -> Turned:
    """ "How long does the flight take" as how long it is."""
    if frame != "?how" or forms[:1] != ["long"]:
        return frame, forms
    for place in range(1, len(forms)):
        if forms[place] in ("take", "last") and forms[place - 1] in EVENTS and _ends(forms, place + 1):
            return frame, [*forms[:place], *forms[place + 1 :]]
        if forms[place] in ("take", "last") and place + 1 == len(forms) and any(form in EVENTS for form in forms):
            return frame, forms[:-1]
    return frame, forms


def _distant(frame: str, forms: list[str]) -> Turned:
    """ "How far is A from B", "how far is it from A to B" as how far it is between A and B."""
    if frame != "?how" or forms[:1] != ["far"] or "from" not in forms:
        return frame, forms
    rest = [form for form in forms[1:] if form not in ("be", "it", "a")]
    place = rest.index("from")
    before, behind = rest[:place], rest[place + 1 :]
    if not before and behind.count("to") == 1:
        place = behind.index("to")
        before, behind = behind[:place], behind[place + 1 :]
    if not before or not behind or any(form in english.JOINTS for form in before + behind):
        return frame, forms
    return frame, ["far", "between", *before, "and", *behind]


def _may(frame: str, forms: list[str]) -> Turned:
    """ "Is it okay for dogs to eat it" as can dogs eat it."""
    said = [form for form in forms if form not in ("be", "it")]
    if frame != "?is" or forms[:1] != ["be"] or len(said) < 5 or said[0] not in ALLOWED or said[1] != "for":
        return frame, forms
    if "to" not in said[3:-1]:
        return frame, forms
    place = said.index("to", 3)
    return frame, ["can", *said[2:place], *said[place + 1 :]]


def _needed(frame: str, forms: list[str]) -> Turned:
    """ "Is a visa required" as do I need a visa."""
    if frame != "?is" or forms[:1] != ["be"] or forms[1:2] == ["it"]:
        return frame, forms
    for place in range(2, len(forms)):
        if forms[place] in english.JOINTS:
            break
        if forms[place] in ("needed", "necessary", "mandatory") and _ends(forms, place + 1):
            return frame, ["do", "i", "need", *forms[1:place], *forms[place + 1 :]]
    return frame, forms


def _joined(frame: str, forms: list[str]) -> Turned:
    """ "Turn the light off" as turn off the light."""
    for place, form in enumerate(forms):
        if form not in english.PARTICLES or not _ends(forms, place + 1):
            continue
        for verb in range(place - 2, max(place - 6, -1), -1):
            if f"{forms[verb]}-{form}" in english.PHRASAL:
                return frame, [*forms[:verb], f"{forms[verb]}-{form}", *forms[verb + 1 : place], *forms[place + 1 :]]
            if forms[verb] in english.JOINTS:
                break
    return frame, forms


def _happening(frame: str, forms: list[str]) -> Turned:
    """ "What happens if A is mixed" as what happens when anybody mixes A."""
    if "happen" not in forms[:2] or not frame.startswith("?wh"):
        return frame, forms
    start = next((place + 1 for place, form in enumerate(forms) if form in ("if", "when")), 0)
    clause = forms[start:]
    if not start or len(clause) < 2:
        return frame, forms
    if clause[0] in ANYBODY:
        clause = ["people", *clause[1:]]
    elif clause[-2] == "be" and english.participle(clause[-1]):
        clause = ["people", clause[-1], *clause[:-2]]
    return frame, [*forms[: start - 1], "if", *clause]


def _costing(frame: str, forms: list[str]) -> Turned:
    """ "The cost of replacing it" as what it costs to replace it."""
    if frame == "?how-much" and forms and english.gerund(forms[0]):
        return frame, ["to", *forms]
    return frame, forms


def _bounded(frame: str, forms: list[str]) -> Turned:
    """ "500 dollars at most" as at most 500 dollars."""
    for place in range(1, len(forms)):
        if forms[place] in BOUNDED and _ends(forms, place + 1):
            for back in (place - 1, place - 2):
                if back >= 0 and forms[back].startswith("#"):
                    return frame, [*forms[:back], forms[place], *forms[back:place], *forms[place + 1 :]]
    return frame, forms


def _without_the_obvious(frame: str, forms: list[str]) -> Turned:
    """Without what is meant anyway: the current president, the tallest building in the world."""
    if frame in ("?who", "?what", "?which"):
        forms = [
            form
            for place, form in enumerate(forms)
            if not (form == "current" and place + 1 < len(forms) and forms[place + 1] in INCUMBENT)
        ]
    said = [form for form in forms if form != "a"]
    if said[-2:] in (["in", "world"], ["on", "earth"], ["on", "planet"], ["in", "earth"]) and any(
        form == "most" or english.superlative(form) for form in said[:-2]
    ):
        forms = forms[: max(place for place, form in enumerate(forms) if form in ("in", "on"))]
    return frame, forms


def _stopping(frame: str, forms: list[str]) -> Turned:
    """ "Keep it from barking" as prevent it from barking."""
    for place, form in enumerate(forms):
        if form in STOPPING:
            for later in range(place + 2, len(forms) - 1):
                if forms[later] == "from" and english.gerund(forms[later + 1]):
                    return frame, [*forms[:place], "prevent", *forms[place + 1 :]]
    return frame, forms


def _caused(frame: str, forms: list[str]) -> Turned:
    """ "What is it that causes it" as what causes it."""
    if frame in ("?what", "?which") and forms[:1] in (["cause"], ["caused"]) and len(forms) > 1:
        return "?cause", forms[1:]
    return frame, forms


def _getting(frame: str, forms: list[str]) -> Turned:
    """ "How hot does Dubai get" as how hot it is in Dubai."""
    if frame != "?how" or forms[1:2] != ["do"] or "get" not in forms[3:]:
        return frame, forms
    place = forms.index("get", 3)
    if not _ends(forms, place + 1):
        return frame, forms
    where = [] if forms[2:place] == ["it"] else ["in", *forms[2:place]]
    return frame, [forms[0], *where, *forms[place + 1 :]]


def _generally(frame: str, forms: list[str]) -> Turned:
    """ "How many will fit" as how many fit."""
    told = not english.DATES.isdisjoint(forms) or not english.CLAUSES.isdisjoint(forms)
    if forms.count("will") != 1 or told or GENERAL.isdisjoint(forms) or frame not in WHATEVER:
        return frame, forms
    return frame, [form for form in forms if form != "will"]


def _more_in(frame: str, forms: list[str]) -> Turned:
    """ "Is there more of it in A than in B" as does A have more of it than B."""
    if frame != "?is-there" or forms[:1] not in (["more"], ["less"]) or forms.count("than") != 1:
        return frame, forms
    place = forms.index("than")
    first, other = forms[:place], forms[place + 1 :]
    if other[:1] == ["in"] and len(other) > 1 and "in" in first[2:-1]:
        where = first.index("in")
        return "?is", [*first[where + 1 :], "have", *first[:where], "than", *other[1:]]
    return frame, forms


def _considered(frame: str, forms: list[str]) -> Turned:
    """ "Is Pluto considered a planet" as do people consider Pluto a planet."""
    if frame == "?is" and forms[:1] == ["be"] and "considered" in forms[2:-1]:
        place = forms.index("considered", 2)
        return frame, ["do", "people", "consider", *forms[1:place], *forms[place + 1 :]]
    return frame, forms


def _greatest_in(frame: str, forms: list[str]) -> Turned:
    """ "The longest rivers of Europe" as the longest rivers in Europe."""
    for place in range(2, len(forms)):
        before = forms[: place - 1]
        if forms[place] == "of" and any(form == "most" or english.superlative(form) for form in before):
            return frame, [*forms[:place], "in", *forms[place + 1 :]]
    return frame, forms


def _of_these(frame: str, forms: list[str]) -> Turned:
    """ "What is the strongest of these" as which of these is the strongest."""
    if frame in ("?what", "?which") and forms[-2:] in (["of", "these"], ["of", "those"]) and len(forms) > 2:
        return "?which-one", forms[:-2]
    return frame, forms


def _enough(frame: str, forms: list[str]) -> Turned:
    """ "Seats enough" as enough seats."""
    for place in range(1, len(forms) if frame == "?is-there" else 0):
        if forms[place] == "enough" and _ends(forms, place + 1) and forms[place - 1] not in english.JOINTS:
            return frame, [*forms[: place - 1], "enough", forms[place - 1], *forms[place + 1 :]]
    return frame, forms


def _taken_out(frame: str, forms: list[str]) -> Turned:
    """ "Get a stain out of a shirt" as remove a stain from a shirt."""
    for place in range(2, len(forms) - 2):
        if forms[place : place + 2] == ["out", "of"] and "get" in forms[max(place - 5, 0) : place - 1]:
            verb = place - 1 - forms[:place][::-1].index("get")
            return frame, [*forms[:verb], "remove", *forms[verb + 1 : place], "from", *forms[place + 2 :]]
    return frame, forms


def _with(frame: str, forms: list[str]) -> Turned:
    """ "Pair it with my laptop" as pair it to my laptop."""
    if "with" in forms and any(form in TOGETHER for form in forms[: forms.index("with")]):
        place = forms.index("with")
        return frame, [*forms[:place], "to", *forms[place + 1 :]]
    return frame, forms


def _ends(forms: list[str], place: int) -> bool:
    """Whether a phrase ends before ``place``."""
    return place >= len(forms) or forms[place] in english.JOINTS or forms[place] == ","


_STEPS: tuple[Callable[[str, list[str]], Turned], ...] = (
    _joined, _agent_asked, _held, _agent_named, _differing, _lasting, _distant, _may, _needed, _happening, _costing,
    _bounded, _stopping, _caused, _getting, _generally, _more_in, _considered,
    _of_these, _greatest_in, _enough, _taken_out, _with, _without_the_obvious,
)  # fmt: skip
