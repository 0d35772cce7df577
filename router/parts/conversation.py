"""A conversation, from messages to the words that are judged. Stateless: the same body gives the same words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, compress, islice, takewhile
from typing import Literal

from triton_router.dialects import ModelRequest, Turn
from triton_router.dialects.request import SYSTEM_ROLES
from triton_router.parts.compaction import REASON, asks_for_summary, compactions
from triton_router.parts.follow import LONGEST as LONGEST_TURN
from triton_router.parts.follow import adds, elliptical, says_nothing, shares_words
from triton_router.parts.message import LONGEST, partition
from triton_router.parts.network import network
from triton_router.parts.part import Kind, Part
from triton_router.parts.shapes import SHAPES, Shape, ShapeTable, names_speech
from triton_router.parts.task import Task, spoken, task_of

Conversation = Literal["follow", "last_turn"]
"""Whether a turn that says nothing by itself is judged with the person's earlier words, or each turn alone."""

# A chain of such turns is followed back so far.
MOST_TURNS = 12
# Of a reply so many characters are compared with the next turn.
REPLY = 4_000
# What repeats over turns is a program's from so many characters on; people repeat a short word themselves.
REPEATED = 40
# So much material counts where the person's own words say nothing without it ("what is wrong here?").
MATERIAL = 2_000
# A system text that gives directions for one task is short; an agent's has pages.
DIRECTIONS = 4_000

_SHIPPED = ShapeTable(SHAPES)
_PERSONS = frozenset({"words", "material"})
# Stands where words stood; no text has it.
_HOLE = "\x00"


class Parts:
    """The parts of one request.

    ``judged`` are the parts of the turn that counts, ``earlier`` what the person said in the turns that it goes on
    from, oldest first. ``task`` names what a program asks for itself. ``words`` are the person's, earlier ones first;
    material stands in for words that say nothing by themselves. ``topic`` is ``words`` without turns that add little to
    the first ("yes", "why?", "in Python please").
    """

    __slots__ = ("_shapes", "earlier", "judged", "task", "topic", "turns", "words")

    def __init__(
        self,
        turns: Sequence[Turn],
        judged: Sequence[Part] = (),
        earlier: Sequence[str] = (),
        task: Task | None = None,
        shapes: ShapeTable = _SHIPPED,
    ) -> None:
        self.turns, self.judged, self.earlier, self.task, self._shapes = turns, judged, earlier, task, shapes
        turn = self.own
        if not turn or says_nothing(turn):
            turn = f"{turn}\n{self.material[:MATERIAL]}".strip()
        self.words = "\n".join([*earlier, turn]) if earlier else turn
        self.topic = "\n".join([earlier[0], *filter(adds, [*earlier[1:], turn])]) if earlier else self.words

    @property
    def own(self) -> str:
        """The person's words in the turn that counts, without material."""
        return _joined(self.judged, "words")

    @property
    def material(self) -> str:
        """What the person gave to work on in that turn."""
        return _joined(self.judged, "material")

    def read(self, names: Iterable[str]) -> str:
        """What a signal reads that names these parts: kinds of parts, `topic`, `own`, or `all`."""
        texts = [self._named(name) for name in names]
        return texts[0] if len(texts) == 1 else "\n".join(filter(None, texts))

    def places(self, parts: Sequence[Part], names: Iterable[str]) -> list[int]:
        """Which of ``parts``, all of the conversation, are read by a signal that names these."""
        chosen = set(names)
        person = "\n".join(self._named(name) for name in ("words", "topic", "own", "material") if name in chosen)
        return [
            place
            for place, part in enumerate(parts)
            if "all" in chosen
            or (part.kind in chosen and part.kind not in _PERSONS)
            or (part.kind in _PERSONS and part.text.strip()[:MATERIAL] in person)
        ]

    def said_before(self) -> Iterator[str]:
        """The person's words of each turn before the one that counts, the newest first."""
        last = min((part.turn for part in self.judged), default=0)
        for number in range(last - 1, -1, -1):
            if (turn := self.turns[number]).role == "user" and turn.text.strip():
                yield _joined(_parts_of(turn, number, self._shapes), "words") or turn.text

    def _named(self, name: str) -> str:
        match name:
            case "words" | "topic" | "own" | "material":
                text: str = getattr(self, name)
                return text
            case "all":
                return "\n".join(turn.text for turn in self.turns)
            case _:
                return "\n".join(part.text for part in self.all() if part.kind == name)

    def all(self) -> Iterator[Part]:
        """Every part of the conversation, in order."""
        kinds: dict[str, Kind] = {"assistant": "assistant", "tool": "tool", "system": "system", "developer": "system"}
        judged = {part.turn for part in self.judged}
        for number, turn in enumerate(self.turns):
            if turn.role in kinds:
                if turn.text:
                    yield Part(kinds[turn.role], turn.text, "role", number)
            elif number in judged:
                yield from (part for part in self.judged if part.turn == number)
            else:
                yield from _parts_of(turn, number, self._shapes)


class PartReader:
    """Reads conversations. ``shapes`` are known besides those that are shipped."""

    __slots__ = ("_follow", "_shapes")

    def __init__(self, shapes: Iterable[Shape] = (), conversation: Conversation = "follow") -> None:
        self._shapes = ShapeTable([*SHAPES, *shapes])
        self._follow = conversation == "follow"
        network()  # read before the first request

    def read(self, request: ModelRequest) -> Parts:
        """The parts of ``request``.

        Raises:
            MalformedRequest: the conversation has another shape.
        """
        return self.read_turns(request.turns())

    def read_turns(self, turns: Sequence[Turn]) -> Parts:
        """The parts of a conversation in the order of its ``turns``, system text first."""
        numbers = [number for number, turn in enumerate(turns) if turn.role == "user" and turn.text]
        if not numbers:
            # No person speaks; the last turn says what there is.
            last = turns[-1].text if turns else ""
            return Parts(turns, [Part("words", last, "role", len(turns) - 1)] if last else [], (), None, self._shapes)
        judged, before, spoke = self._last_words(turns, numbers)
        earlier: list[str] = []
        history = _joined(judged, "history")
        newest = judged if spoke == numbers[-1] else compactions(_blocks(turns[numbers[-1]]))
        compacts = asks_for_summary(newest)
        task = "summary" if compacts else task_of(turns[spoke].text, _directions(turns, judged), bool(history))
        named = any(_is_named(part) for part in judged)
        if task == "other" and named:
            task = None
        if task and history and not named and (quoted := _quoted(history, task)):
            judged = [part._replace(kind="template") if part.kind == "words" else part for part in judged]
            judged += _numbered(partition(quoted[-1:], self._shapes), spoke)
            if self._follow:
                earlier = _followed(((each, "") for each in reversed(quoted[:-1])), quoted[-1])
        elif (task is None or compacts) and self._follow:
            exchanges = (
                (_joined(self._parts(turns, number), "words"), _reply(turns, number))
                for number in _within(turns, before)
            )
            transcript = ((each, "") for each in reversed(spoken(history)))
            earlier = _followed(chain(transcript, exchanges), _joined(judged, "words"))
        if not any(part.kind == "words" for part in judged):
            judged = [*judged, Part("words", history, "role", spoke)]  # a transcript without speakers, and no more
        return Parts(turns, judged, earlier, task, self._shapes)

    def _last_words(self, turns: Sequence[Turn], numbers: Sequence[int]) -> tuple[list[Part], list[int], int]:
        """The parts of the last turn in which a person speaks, the turns of a person before it, and its number.

        Turns behind it have only what a program put there: a reminder behind a tool's result, an environment. Where no
        person speaks any more, the summary of what they said stands for it.
        """
        for place in range(len(numbers) - 1, -1, -1):
            before = numbers[:place]
            parts = _parts_of(turns[numbers[place]], numbers[place], self._shapes, _paragraphs(turns, before))
            if any(part.kind in ("words", "history") for part in parts):
                return parts, list(before), numbers[place]
        last = numbers[-1]
        every = (part for number in reversed(numbers) for part in self._parts(turns, number))
        summary = next((part for part in every if part.reason == REASON and part.kind == "context"), None)
        return [summary._replace(kind="words") if summary else Part("words", turns[last].text, "role", last)], [], last

    def _parts(self, turns: Sequence[Turn], number: int) -> list[Part]:
        return _parts_of(turns[number], number, self._shapes)


def split_words(parts: Parts) -> tuple[str, str] | None:
    """The last turn without the person's words, and these; ``None`` where they are not all that asks.

    The first has a mark in the place of each piece of words, so both together are the turn, and nothing else is.
    """
    last = len(parts.turns) - 1
    if parts.task or parts.earlier or parts.topic != parts.own or any(part.turn != last for part in parts.judged):
        return None
    rest, at = parts.turns[last].text, 0
    if _HOLE in rest:
        return None
    for part in parts.judged:
        if part.kind == "words" and (text := part.text.strip()):
            if (start := rest.find(text, at)) < 0:
                return None
            rest, at = f"{rest[:start]}{_HOLE}{rest[start + len(text) :]}", start + 1
    return rest, parts.own


def _parts_of(turn: Turn, number: int, shapes: ShapeTable, seen: frozenset[str] = frozenset()) -> list[Part]:
    """The parts of a turn; of paragraphs that it shares with ``seen`` only if it says nothing else."""
    blocks = _blocks(turn)
    # Before a first message of one text there is nothing that a summary could be of.
    if (number or len(blocks) > 1) and (programs := compactions(blocks)):
        whole = {part.text for part in programs}
        return _numbered([*partition([block for block in blocks if block not in whole], shapes), *programs], number)
    if seen:
        fresh = [_fresh(block, seen) for block in blocks]
        parts = partition([text for text, _ in fresh], shapes)
        if any(part.kind == "words" for part in parts):
            parts += [Part("context", text, "repeated") for _, text in fresh if text]
            return _numbered(parts, number)
    return _numbered(partition(blocks, shapes), number)


def _blocks(turn: Turn) -> tuple[str, ...]:
    return turn.blocks or (turn.text,)


def _numbered(parts: Iterable[Part], turn: int) -> list[Part]:
    return [Part(kind, text, reason, turn) for kind, text, reason, _ in parts]


def _paragraphs(turns: Sequence[Turn], numbers: Iterable[int]) -> frozenset[str]:
    """Those of some turns that are long enough to be a program's where they repeat."""
    return frozenset(
        text for number in numbers for text in map(str.strip, turns[number].text.split("\n\n")) if len(text) >= REPEATED
    )


def _fresh(block: str, seen: frozenset[str]) -> tuple[str, str]:
    """``block`` without the paragraphs that were ``seen``, and these. What is in tags or fences stays whole."""
    if len(block) < REPEATED:
        return block, ""
    paragraphs = block.split("\n\n")
    repeats = [text.strip() in seen and "<" not in text and "```" not in text for text in paragraphs]
    old = "\n\n".join(compress(paragraphs, repeats))
    return ("\n\n".join(text for text, repeat in zip(paragraphs, repeats, strict=True) if not repeat), old)


def _within(turns: Sequence[Turn], numbers: Sequence[int]) -> Iterator[int]:
    """``numbers`` of turns, the newest first, as long as they are not too long to be read."""
    room = LONGEST
    for number in reversed(numbers):
        room -= len(turns[number].text)
        if room < 0:
            return
        yield number


def _reply(turns: Sequence[Turn], number: int) -> str:
    """What the assistant says to the turn with that ``number``; the beginning of it, where it is long."""
    replies = takewhile(lambda turn: turn.role != "user" or not turn.text, islice(turns, number + 1, None))
    return "\n".join(turn.text[:REPLY] for turn in replies if turn.role == "assistant")[:REPLY]


def _followed(exchanges: Iterator[tuple[str, str]], last: str) -> list[str]:
    """What the person said in the turns that ``last`` goes on from, oldest first.

    ``exchanges`` are what the person said before and what the assistant replied, the newest first.
    """
    followed: list[str] = []
    words = last
    for earlier, reply in islice(exchanges, MOST_TURNS) if len(last) <= LONGEST_TURN else ():
        if not (elliptical(words) or shares_words(words, f"{earlier}\n{reply}")):
            break
        if earlier:
            followed.append(earlier)
            words = earlier
    return followed[::-1]


def _is_named(part: Part) -> bool:
    """Whether a mark names ``part`` as what the person says now: "Newest message:"."""
    mark, _, name = part.reason.partition(" ")
    return part.kind == "words" and mark in ("label", "title", "heading") and names_speech(name)


def _quoted(history: str, task: Task) -> list[str]:
    """What the person said in ``history``, in order; some programs quote only the person, without names in front."""
    return spoken(history) or ([] if task == "other" else [history])


def _directions(turns: Sequence[Turn], judged: Sequence[Part]) -> str:
    system = [turn.text for turn in turns if turn.role in SYSTEM_ROLES and len(turn.text) <= DIRECTIONS]
    return "\n".join([*(part.text for part in judged if part.kind in ("words", "template")), *system])


def _joined(parts: Iterable[Part], kind: Kind) -> str:
    return "\n".join(part.text.strip() for part in parts if part.kind == kind)
