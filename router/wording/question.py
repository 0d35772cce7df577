"""What a question says, without how it says it.

Only what is known to mean the same becomes the same: politeness, spelling, forms of numbers, units and dates, kinds of
question, some constructions. Every other word stays as it is, so a word that is not known here can only keep two
questions apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from triton_router.wording import english
from triton_router.wording.sentence import Part, Sentence, courteous
from triton_router.wording.words import CASED, CODE, Word, words_of

# Over this, only the very same text is the same.
_LONGEST_PLAIN = 20_000
# Where wording is asked about, but the wording itself stands elsewhere.
_POINTED = re.compile(
    r"\b(?:translate|rewrite|rephrase|paraphrase|proofread) (?:(?:this|these|the|my) (?:following |whole )?"
    r"(?:sentence|text|document|paragraph|page|email|letter|article|essay|book|chapter|menu)s?|chapter|page)\b"
    r"[^.:!?\"']*[.!?]?$",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Wording:
    """``parts`` in common order; where ``bound``, their order is part of what they say."""

    parts: tuple[Part, ...]
    bound: bool

    def flat(self) -> list[str]:
        """All words in order, joints among them."""
        return [word for part in self.parts for word in ((part.joint, *part.words) if part.joint else part.words)]


def plain(text: str, *, shouted: bool = False) -> str:
    """``text`` but for the capital of a sentence, spacing and the last stop: what is compared where it is not read.

    In code indents count too. Other capitals may be all that tells "US policy" from "us policy"; where one of two texts
    is ``shouted``, all in capitals, they tell nothing.
    """
    if len(text) > _LONGEST_PLAIN:
        return text
    if CODE.search(text):
        return text.strip()
    words = text.split()
    for place, word in enumerate(words):
        begins = not place or words[place - 1][-1] in ".?!"
        if (shouted or (begins and word[1:] == word[1:].lower())) and not CASED.search(word):
            words[place] = word.lower()
    return " ".join(words).rstrip(" .?!")


def read(text: str) -> Wording | None:
    """What an English question says; ``None`` where `triton_router.wording.words.words_of` gives none."""
    found = words_of(text)
    if found is None:
        return None
    words, formula = found
    if _about_words(words, text):
        return _literal(words)
    sentences = [Sentence.read(piece) for piece in _wished(list(_pieces(_resumed(words))))]
    sentences = _question_first([sentence for sentence in sentences if sentence.parts])
    bound = formula or len(sentences) > 1 or any(sentence.bound for sentence in sentences)
    return Wording(tuple(part for sentence in sentences for part in sentence.parts), bound)


def _about_words(words: list[Word], text: str) -> bool:
    written = [word.written for word in words]
    if "say" in written and not {"how", "to"}.isdisjoint(written[: written.index("say")]):
        return True
    return any(word.form in english.WORDING for word in words) and not _POINTED.search(text)


def _pieces(words: list[Word]) -> Iterator[list[Word]]:
    """Sentences; "it is raining, what do I wear" counts as two."""
    piece: list[Word] = []
    for place, word in enumerate(words):
        after = words[place + 1].written if place + 1 < len(words) else ""
        told = len(piece) > 2 and piece[0].written not in english.STARTERS and piece[0].form not in english.JOINTS
        if word.form == "." or (word.form == "," and told and after in english.QUESTION_WORDS):
            yield piece
            piece = []
        else:
            piece.append(word)
    yield piece


def _resumed(words: list[Word]) -> list[Word]:
    """ "The final, who won it?" as who won the final."""
    place = next((place for place, word in enumerate(words) if word.form == ","), 0)
    named, asked = words[:place], words[place + 1 :]
    if not place or not asked or asked[0].written not in english.QUESTION_WORDS:
        return words
    # "Anna, what is it?" asks Anna.
    thing = named[0].number or (len(named) > 1 and named[0].form in ("a", "this", "that", "my", "your"))
    if not thing and not any(word.form in ("of", "in") for word in named[1:-1]):
        return words
    if named[0].form in english.JOINTS or any(
        word.form in english.VERBS or word.form in english.AUXILIARIES or word.form in ("i", "do", ".")
        for word in named
    ):
        return words
    meant = [at for at, word in enumerate(asked) if word.written in ("it", "they", "them", "he", "she", "him")]
    if len(meant) != 1:
        return words
    before, behind = asked[: meant[0]], asked[meant[0] + 1 :]
    if len(behind) > 2 and behind[0].form in ("cost", "take") and behind[1].form == "to":
        # "A parcel, what does it cost to send?"
        ends = len(behind) - (behind[-1].form == ".")
        return [*asked[: meant[0] + 1], *behind[:ends], *named]
    return [*before, *named, *behind]


def _wished(pieces: list[list[Word]]) -> list[list[Word]]:
    """ "I want to do it. How do I do that?" as how to do it."""
    pieces = [piece for piece in pieces if piece]
    if len(pieces) != 2:
        return pieces
    told, asked = ([word.form for word in piece] for piece in pieces)
    wish = next((wish for wish in english.WISHES if told[: len(wish)] == wish), None)
    if wish is None or len(told) == len(wish) or asked not in english.ASKED_HOW:
        return pieces
    return [[Word("how", "how"), Word("to", "to"), *pieces[0][len(wish) :]]]


def _question_first(sentences: list[Sentence]) -> list[Sentence]:
    """A circumstance and a question about it are the question under that condition."""
    if len(sentences) != 2 or sentences[0].asks == sentences[1].asks:
        return sentences
    question, told = sorted(sentences, key=lambda sentence: not sentence.asks)
    first, *rest = told.parts
    condition = first if first.joint else Part("if", first.words)
    return [question, Sentence((condition, *rest), False, told.bound)]


def _literal(words: list[Word]) -> Wording:
    """Where a text is about wording, every word counts as it is written."""
    forms = courteous([word.form for word in words if word.form not in (",", ".")])
    skipped = sum(word.form not in (",", ".") for word in words) - len(forms)
    written = [word.written for word in words if word.form not in (",", ".")][skipped:]
    return Wording((Part("", tuple(written)),), bound=True)
