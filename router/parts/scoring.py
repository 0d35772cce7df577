"""Whose words a message without marks has: each segment is scored, and the run with the greatest sum is the person's.

Programs put their text before or behind a person's, so what the person says stands together. The weights are those of a
logistic regression over what `segments.py` sees of a segment; `python -m export fit-parts` trains them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, chain
from operator import mul

from triton_router.parts.asking import points_at_text
from triton_router.parts.follow import elliptical, says_little, subject_stems
from triton_router.parts.part import Kind, Part
from triton_router.parts.segments import EDGE, Segment, cut, features

WEIGHTS = (
    0.78, 1.91, 1.67, 0.11, -1.46, -0.65, -3.47, 0.39, 0.28, 0.40, 0.53, -2.99, 1.54, -1.54, -1.85, -1.81, -1.56,
    -1.59, -2.00, 1.07, 1.38, -1.04, -2.67, 0.40, -1.07, -1.47, 1.43, -0.85, -0.91,
)  # fmt: skip
# Below this sum nothing speaks for any run.
NOTHING = -2.0
# Words that two texts share are so long at least; shorter ones say little.
SHARED = 7


def persons(parts: Sequence[Part]) -> list[Part]:
    """``parts`` with only the person's own text as words, where a message has no marks that name it."""
    segments = segments_of(parts)
    if len(segments) < 2:
        return list(parts)
    scores = _scores(segments)
    first, last = best_run(scores)
    if sum(scores[first : last + 1]) < NOTHING:
        return list(parts)  # nothing speaks for any of it
    first, last = _with_related(segments, first, last)
    while 0 < first < last and segments[first].form in ("heading", "bracket"):
        first += 1
    if first == 0 and last == len(segments) - 1:
        return list(parts)
    chosen: dict[int, list[Segment]] = {}
    for segment in segments[first : last + 1]:
        chosen.setdefault(segment.part, []).append(segment)
    return [
        inner
        for number, part in enumerate(parts)
        for inner in (_split(part, chosen.get(number, [])) if part.kind == "words" else [part])
    ]


def segments_of(parts: Sequence[Part]) -> list[Segment]:
    """The segments of all words in ``parts``."""
    return [each for number, part in enumerate(parts) if part.kind == "words" for each in cut(part.text, number)]


def _scores(segments: Sequence[Segment]) -> list[float]:
    """How much speaks for the person in each; only those at both ends are looked at where there are many."""
    middle = max(0, len(segments) - 2 * EDGE)
    seen = segments if not middle else [*segments[:EDGE], *segments[-EDGE:]]
    scores = [sum(map(mul, WEIGHTS, each)) for each in features(seen)]
    return scores if not middle else [*scores[:EDGE], *[0.0] * middle, *scores[EDGE:]]


def _with_related(segments: Sequence[Segment], first: int, last: int) -> tuple[int, int]:
    """The run from ``first`` to ``last``, with the text around it that it is about."""
    end = len(segments) - 1
    own = "\n".join(each.text for each in segments[first : last + 1])
    if points_at_text(own) or elliptical(own) or says_little(own):
        first, last = (first, _alike(segments, last)) if last < end else (0, last)
    while last < end and segments[last + 1].form == "prose" and elliptical(segments[last + 1].text):
        last += 1
    stems = subject_stems(own, SHARED)
    for number in chain(range(first), range(end, last, -1)) if stems else ():
        if _shares(segments[number].text.casefold(), stems):
            first, last = min(first, number), max(last, number)
    return first, last


def _alike(segments: Sequence[Segment], last: int) -> int:
    """The end of the text behind ``last``: code is not what a question about prose is about, nor a caption."""
    apart = {"code", "bracket"} - {segments[last + 1].form}
    end = len(segments)
    return next((number for number in range(last + 2, end) if segments[number].form in apart), end) - 1


def _shares(text: str, stems: set[str]) -> bool:
    """Whether ``text`` has two of the words, or a long one: shorter words come together by chance."""
    shared = [stem for stem in stems if stem in text]
    return len(shared) > 1 or any(len(stem) >= SHARED for stem in shared)


def _split(part: Part, chosen: Sequence[Segment]) -> list[Part]:
    start, end = (chosen[0].start, chosen[-1].end) if chosen else (len(part.text), len(part.text))
    pieces = (("", part.text[:start]), ("words", part.text[start:end]), ("", part.text[end:]))
    return [
        part._replace(text=text.strip()) if kind else Part(_kind_of(text), text.strip(), "position", part.turn)
        for kind, text in pieces
        if text.strip()
    ]


def _kind_of(text: str) -> Kind:
    """Prose and code are there to be worked on; the rest says where a message comes from."""
    return "material" if any(each.form in ("prose", "code") for each in cut(text)) else "context"


def best_run(scores: Sequence[float]) -> tuple[int, int]:
    """The first and the last of the run of ``scores`` with the greatest sum."""
    sums = [0.0, *accumulate(scores)]
    least, start, best = 0.0, 0, (float("-inf"), 0, 0)
    for end, total in enumerate(sums[1:]):
        best = max(best, (total - least, start, end), key=lambda run: run[0])
        if total < least:
            least, start = total, end + 1
    return best[1:]
