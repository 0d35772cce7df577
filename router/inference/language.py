"""Which language a text is written in, so that it goes to an encoder that reads it.

The classifier is py3langid's: naive Bayes over byte sequences (Lui and Baldwin, 2012), 97 languages. Its own call
multiplies a matrix of all sequences; here only those that occur in the text count, which is a tenth of the time.
Of its automaton's rows, nearly three in four are equal to another one, and are kept once.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# More characters change no verdict, and cost time.
SCANNED = 400
# With fewer letters of the Latin script, as in a formula, anything could be any language.
LEAST_LETTERS = 6
# English with many foreign names looks like it, and hardly anybody asks in it.
NOT_ASKED_IN = "la"
# With two of these, and one in seven of its words, a text is in English: of 11,767 prompts that decides four in five
# English ones and none in another language. It takes a microsecond; the classifier's tables are megabytes.
_ENGLISH = frozenset({
    "the", "of", "and", "what", "is", "how", "are", "which", "why", "with", "for", "from", "that", "this", "these",
    "does", "did", "would", "should", "can", "you", "your", "my", "it", "its", "be", "was", "were", "an", "explain",
    "write", "between", "about", "into", "when", "there", "their", "has", "have", "if", "then", "following", "by",
})  # fmt: skip
LEAST_ENGLISH, ENGLISH_SHARE = 2, 0.15
# Prompts in English are the more common ones: so much is added to its log-likelihood. Of English prompts cut to three
# or four words, 81 % are sure instead of 62 %, and of such beginnings in other languages 0.8 % are taken for English.
PRIOR_OF_ENGLISH = 3.0
# Below, no language is said. Of 1,196 texts in 24 other languages one is taken for English from here on, and of 2,955
# in English 0.7 % stay without a language (docs/model-report.md).
SURE = 0.9

_LATIN = re.compile(
    r"[A-Za-z\u00aa\u00ba\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u02af\u1d00-\u1d25\u1e00-\u1eff\u2c60-\u2c7f"
    r"\ua722-\ua787\ua78b-\ua7ff\ufb00-\ufb06\uff21-\uff3a\uff41-\uff5a]"
)

# Of Chinese, Japanese and Korean one letter says about as much as five Latin ones. Their questions are full of names of
# programs and products.
_SYLLABLES = re.compile(r"[\u3041-\u30ff\u3400-\u9fff\uac00-\ud7a3\uf900-\ufaff]")
LATIN_FOR_ONE = 5


def identify(text: str) -> str | None:
    """The ISO 639-1 code of the text's language; ``None`` where it is not sure, as of a formula or a name.

    A text in another script than Latin is always in some other language than English.
    """
    text = text[:SCANNED]
    if _is_plainly_english(text):
        return "en"
    model = _model()
    if text.isupper():  # it knows hardly any such words
        text = text.lower()
    foreign = foreign_script(text)
    if not foreign and sum(map(str.isalpha, text)) < LEAST_LETTERS:
        return None
    # Latin names in such a text would be taken for some language of their own.
    judged = _LATIN.sub("", text) if foreign else text
    scores = model.scores(judged.encode("utf-8", "replace"))
    scores[model.languages.index(NOT_ASKED_IN)] = -np.inf
    scores[model.languages.index("en")] += -np.inf if foreign else PRIOR_OF_ENGLISH
    best = int(scores.argmax())
    probability = 1 / np.exp(scores - scores[best]).sum()
    return model.languages[best] if foreign or probability >= SURE else None


def _is_plainly_english(text: str) -> bool:
    words = text.lower().split() if text.isascii() else ()
    count = sum(map(_ENGLISH.__contains__, words))
    return count >= LEAST_ENGLISH and count >= ENGLISH_SHARE * len(words)


def foreign_script(text: str) -> bool:
    """Whether more of a text is in another script than in Latin."""
    text = text[:SCANNED]
    if text.isascii():
        return False
    latin, syllables = len(_LATIN.findall(text)), len(_SYLLABLES.findall(text))
    others = sum(map(str.isalpha, text)) - latin - syllables
    return 0 < others + LATIN_FOR_ONE * syllables >= latin


class _Model(NamedTuple):
    """``moves`` has the next state by state and byte, ``sequences`` those that a state completes.

    ``likelihoods`` FP32 [sequences, languages] and ``priors`` FP32 [languages] are logarithms.
    """

    moves: Sequence[Sequence[int]]
    sequences: Mapping[int, Sequence[int]]
    likelihoods: NDArray[np.float32]
    priors: NDArray[np.float32]
    languages: Sequence[str]

    def scores(self, text: bytes) -> NDArray[np.float32]:
        """The log-likelihood of each language."""
        state, completed = 0, list[int]()
        for byte in text:
            state = self.moves[state][byte]
            completed += self.sequences.get(state, ())
        counts = Counter(completed)
        present = sorted(counts)
        scores: NDArray[np.float32] = (
            np.array([counts[each] for each in present], np.float32) @ self.likelihoods[present]
        )
        return scores + self.priors


@lru_cache(1)
def _model() -> _Model:
    """Takes 0.1 s and 5 MB, once a process."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    model = LanguageIdentifier.from_pickled_model(MODEL_FILE)
    table, rows = model.tk_nextmove, dict[bytes, Sequence[int]]()
    moves = [
        rows.setdefault(row.tobytes(), row)
        for row in (table[start : start + 256] for start in range(0, len(table), 256))
    ]
    sequences = {state: each for state, each in model.tk_output.items() if each}
    return _Model(moves, sequences, model.nb_ptc, model.nb_pc, [str(each) for each in model.nb_classes])
