"""Whose words a message without marks has: each segment is scored, and the run with the greatest sum is the person's.

Programs put their text before or behind a person's, so what the person says stands together. The weights are those of a
logistic regression over what `segments.py` sees of a segment; `python -m export fit-parts` trains them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import accumulate, chain
from operator import mul

from triton_router.parts.asking import points_at_text
from triton_router.parts.follow import elliptical, says_little, subject_stems
from triton_router.parts.part import Kind, Part
from triton_router.parts.segments import EDGE, Segment, cut, features

WEIGHTS = (
    -2.98, 1.38, 0.96, 1.63, 0.95, 0.88, -0.01, -0.74, -0.75, -1.19, -1.88, 1.08, 0.81, 0.97, 0.43, 0.16, -0.93,
    1.43, -2.04, -0.50, -0.09, -1.28, -2.53, 3.42, 1.38, 1.06, -1.11, -0.22, 1.11, 0.85, -0.47, 0.27, -0.21, 0.17,
    -1.28, -0.33, 0.30, -0.74, -0.43, -2.26,
)  # fmt: skip
# So much of the person's words tells what else they are about.
RELATING = 1_000
# Below this sum nothing speaks for any run.
NOTHING = -2.0
# Prose with less is no premise of a question that says little.
UNLIKELY = -2.5
# Words that two texts share are so long at least; shorter ones say little.
SHARED = 7


def persons(parts: Sequence[Part]) -> list[Part]:
    """``parts`` with only the person's own text as words, where a message has no marks that name it."""
    if len(parts) == 1 and "\n" not in parts[0].text:
        return list(parts)
    segments = segments_of(parts)
    if len(segments) < 2:
        return list(parts)
    scored = [sum(map(mul, WEIGHTS, each)) for each in features(ends_of(segments))]
    first, last = best_run(scored)
    if sum(scored[first : last + 1]) < NOTHING:
        return list(parts)  # nothing speaks for any of it
    # Those far from both ends count as the first of them.
    middle = len(segments) - len(scored)
    first, last = (number + middle * (number > EDGE) for number in (first, last))
    scores = [*scored[: EDGE + 1], *[0.0] * middle, *scored[EDGE + 1 :]]
    if last - first + 1 < len(segments):
        first, last = _with_related(segments, scores, first, last)
    whole = last == len(segments) - 1 and (first == 0 or (first == 1 and segments[0].end == segments[1].start))
    if whole and len(parts) == 1:
        return list(parts)
    while first < last and segments[first].form in ("heading", "bracket"):
        first += 1
    chosen: dict[int, list[Segment]] = {}
    worked_on = set()
    for number, segment in enumerate(segments):
        if first <= number <= last:
            chosen.setdefault(segment.part, []).append(segment)
        elif segment.form in ("prose", "code"):
            worked_on.add((segment.part, number < first))
    return [
        inner
        for number, part in enumerate(parts)
        for inner in (_split(part, number, chosen.get(number, []), worked_on) if part.kind == "words" else [part])
    ]


def segments_of(parts: Sequence[Part]) -> list[Segment]:
    """The segments of all words in ``parts``."""
    return [each for number, part in enumerate(parts) if part.kind == "words" for each in cut(part.text, number)]


def ends_of(segments: Sequence[Segment]) -> Sequence[Segment]:
    """The segments that are scored."""
    return segments if len(segments) <= 2 * EDGE + 1 else [*segments[: EDGE + 1], *segments[-EDGE:]]


def _with_related(segments: Sequence[Segment], scores: Sequence[float], first: int, last: int) -> tuple[int, int]:
    """The run from ``first`` to ``last``, with the text around it that it is about."""
    end = len(segments) - 1
    own = "\n".join(each.text for each in segments[first : last + 1])[:RELATING]
    if points_at_text(own):
        first, last = (first, _alike(segments, last)) if last < end else (_alike_before(segments, first), last)
    else:
        premises = _with_premises(segments, scores, first, last)
        if premises != (first, last) and (elliptical(own) or says_little(own)):
            first, last = premises
    while last < end and segments[last + 1].form == "prose" and elliptical(segments[last + 1].text):
        last += 1
    stems = subject_stems(own, SHARED)
    for number in chain(range(first), range(end, last, -1)) if stems else ():
        if _shares(segments[number].text.casefold(), stems):
            first, last = min(first, number), max(last, number)
    return first, last


def _with_premises(segments: Sequence[Segment], scores: Sequence[float], first: int, last: int) -> tuple[int, int]:
    """The run from ``first`` to ``last``, with the prose next to it that may be the person's."""
    while first and segments[first - 1].form in ("prose", "pair") and scores[first - 1] > UNLIKELY:
        first -= 1
    while last < len(segments) - 1 and segments[last + 1].form == "prose" and scores[last + 1] > UNLIKELY:
        last += 1
    return first, last


def _alike(segments: Sequence[Segment], last: int) -> int:
    """The end of the text behind ``last``: code is not what a question about prose is about, nor a caption."""
    apart = {"code", "bracket"} - {segments[last + 1].form}
    end = len(segments)
    return next((number for number in range(last + 2, end) if segments[number].form in apart), end) - 1


def _alike_before(segments: Sequence[Segment], first: int) -> int:
    """The start of the text in front of ``first``: of one form with what stands next to it, or prose."""
    forms = {"prose", segments[first - 1].form} if first else ()
    return next((number + 1 for number in range(first - 1, -1, -1) if segments[number].form not in forms), 0)


def _shares(text: str, stems: set[str]) -> bool:
    """Whether ``text`` has two of the words, or a long one: shorter words come together by chance."""
    shared = [stem for stem in stems if stem in text]
    return len(shared) > 1 or (bool(shared) and len(shared[0]) > SHARED)


def _split(
    part: Part, number: int, chosen: Sequence[Segment], worked_on: Collection[tuple[int, bool]]
) -> Iterator[Part]:
    """A part as words with what stands before and behind: to be ``worked_on``, prose and code, or a program's."""
    start, end = (chosen[0].start, chosen[-1].end) if chosen else (len(part.text), len(part.text))
    for text, before in ((part.text[:start], True), (part.text[start:end], None), (part.text[end:], False)):
        if not text.strip():
            continue
        if before is None:
            yield part._replace(text=text.strip())
        else:
            sides = {before} if chosen else {True, False}
            kind: Kind = "material" if any((number, side) in worked_on for side in sides) else "context"
            yield Part(kind, text.strip(), "position", part.turn)


def best_run(scores: Sequence[float]) -> tuple[int, int]:
    """The first and the last of the run of ``scores`` with the greatest sum, the shortest of several."""
    least, start, most, best = 0.0, 0, float("-inf"), (0, 0)
    for end, total in enumerate(accumulate(scores)):
        if total - least > most:
            most, best = total - least, (start, end)
        if total <= least:
            least, start = total, end + 1
    return best
