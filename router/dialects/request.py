"""What every dialect can do: say what was asked, and change what is sent on."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple

from triton_router.answers import Answer, inside
from triton_router.body import Body, with_member
from triton_router.completion import Completion
from triton_router.dialects.texts import Text, texts_of
from triton_router.errors import MalformedRequest

Mode = Literal["replace", "prepend", "append", "insert"]
"""What becomes of the client's own system text; see :meth:`ModelRequest.tell`."""

SYSTEM_ROLES = ("system", "developer")
# Names of the three dialects for a part of a message that is text, or an image.
TEXT_PARTS = frozenset({"text", "input_text", "output_text"})
IMAGE_PARTS = frozenset({"image_url", "input_image", "image"})
_LOGPROBS = "message.output_text.logprobs"
# Members with tokens that no model reads.
_TOKENS_OF_ANSWERS = frozenset({"allowed_token_ids", "stop_token_ids"})


class Turn(NamedTuple):
    """One turn of a conversation, whatever API it came through.

    ``role`` is `system`, `developer`, `user`, `assistant` or `tool` (or what the client made up). ``calls`` are the ids
    of the tool calls in it, ``answers`` the id of the call whose result it is. ``blocks`` are the texts that ``text``
    joins, where the client sent several.
    """

    role: str
    text: str
    images: int = 0
    calls: tuple[str, ...] = ()
    answers: str = ""
    blocks: tuple[str, ...] = ()


@dataclass(slots=True)
class ModelRequest(Body, ABC):
    """A request to a model. Each API has a subclass, its dialect.

    ``ignored`` names what the configuration wanted and the dialect has no place for, and what was left out.

    It has 17 methods: what is read of a request, what is rewritten, and what an answer to it is.
    """

    ignored: list[str] = field(default_factory=list)
    _turns: list[Turn] | None = None
    _texts: list[Text] | None = None

    # Names the dialect, in cache keys.
    NAME: ClassVar[str]
    # The member that holds what was said.
    CONVERSATION: ClassVar[str]
    # Members that stand for the conversation where that is missing.
    IN_ITS_PLACE: ClassVar[tuple[str, ...]] = ()
    # Members that bound the length of an answer; the first is set where none is given.
    TOKEN_LIMITS: ClassVar[tuple[str, ...]]
    # Without them there is no request.
    NEEDED: ClassVar[frozenset[str]]
    # Members that the API or vLLM's version of it knows.
    MEMBERS: ClassVar[frozenset[str]]
    # Reads what backends answer; ``None`` where that has no words.
    ANSWER: ClassVar[type[Answer] | None]

    # --- reading ---------------------------------------------------------------------------------------------------

    def turns(self) -> list[Turn]:
        """The conversation as sent, system text first.

        Raises:
            MalformedRequest: it has another shape.
        """
        if self._turns is None:
            self._turns = list(self._read())
        return self._turns

    def prompt(self) -> str:
        """What the user last said: the text of the last user turn, or of the last turn if no user spoke."""
        turns = self.turns()
        for turn in reversed(turns):
            if turn.role == "user":
                return turn.text
        return turns[-1].text if turns else ""

    def texts(self) -> list[Text]:
        """Everything that the model reads, in whatever member; see :func:`.texts.texts_of`."""
        if self._texts is None:
            self._texts = texts_of(self)
        return self._texts

    def has_tokens(self) -> bool:
        """Whether the model reads something that nothing here can read: tokens, numbers, what a template makes."""
        if self.get("chat_template"):
            return True
        return any(
            isinstance(value := self.get(name), list) and value and isinstance(value[0], int | float | list)
            for name in self.members
            if name not in _TOKENS_OF_ANSWERS
        )

    def refers_to_stored(self) -> bool:
        """Whether the model reads what only the backend of an earlier request has stored."""
        return False

    @abstractmethod
    def _read(self) -> Iterator[Turn]: ...

    def require_conversation(self) -> None:
        """Refuse a request in which nobody says anything: what the router adds would be all that a model is told.

        Raises:
            MalformedRequest: there is nothing to answer.
        """
        if not self.get(self.CONVERSATION) and not any(self.get(name) for name in self.IN_ITS_PLACE):
            raise MalformedRequest(f"`{self.CONVERSATION}` must not be empty", self.CONVERSATION)

    # --- rewriting -------------------------------------------------------------------------------------------------

    @abstractmethod
    def tell(self, prompt: str, mode: Mode) -> None:
        """Give the model system text: in the place of the client's, before it, after it, or joined to the first."""

    def think(self, parameter: str, enabled: bool) -> None:
        """Set the switch that the model's chat template calls ``parameter``."""
        self.merge("chat_template_kwargs", {parameter: enabled})

    @abstractmethod
    def think_with(self, effort: str) -> None:
        """Ask for an effort of reasoning: `minimal`, `low`, `medium` or `high`."""

    def _ignore(self, what: str) -> None:
        if what not in self.ignored:
            self.ignored.append(what)

    def request_usage(self) -> bool:
        """Have the backend count the tokens of a stream. Returns whether the client did not ask for that itself."""
        return False  # it counts them anyway

    def ask_for_text_alone(self) -> None:
        """Not for an answer's tokens, which say it once more."""
        for name in ("logprobs", "top_logprobs", "return_token_ids", "enable_response_messages"):
            if self.current(name) not in (None, False):
                self.remove(name)
                self._ignore(name)
        included = self.current("include")
        if isinstance(included, list) and _LOGPROBS in included:
            self.edit_elements("include", lambda texts, _: [text for text in texts if _LOGPROBS not in text])
            self._ignore("logprobs")

    # --- answers ---------------------------------------------------------------------------------------------------

    @abstractmethod
    def answer(self, text: str, model: str, usage: dict[str, Any] | None = None) -> Completion:
        """``text`` as the answer of ``model``; ``usage`` as a backend wrote it, ``None`` where nothing was counted."""

    def text_suffices(self) -> bool:
        """Whether an answer's text says all of it, and depends on nothing but the request: then it may be cached."""
        return not self.refers_to_stored()

    def shape(self, body: dict[str, Any]) -> list[Any]:
        """``body``, a version of this request, without the words of its last turn: what else shapes an answer."""
        rest = {name: value for name, value in body.items() if name != self.CONVERSATION}
        conversation = body.get(self.CONVERSATION)
        if not isinstance(conversation, list):
            return [rest]
        *before, last = conversation
        content = last.get("content")
        parts = content if isinstance(content, list) else [content]
        if last.get("type") in (None, "message"):
            # Where an image stands between texts is part of what is asked.
            parts = [None if _is_text(part) else part for part in parts]
        return [rest, before, {name: value for name, value in last.items() if name != "content"}, parts]

    def said_plainly(self) -> bool:
        """Whether the last turn is one text and nothing else."""
        conversation = self.get(self.CONVERSATION)
        if not isinstance(conversation, list):
            return isinstance(conversation, str)
        content = inside(conversation[-1], "content") if conversation else None
        return isinstance(content, str) or (isinstance(content, list) and len(content) == 1 and _is_text(content[0]))


def names(text: str) -> frozenset[str]:
    """The words of ``text``."""
    return frozenset(text.split())


def place_system(
    texts: list[str], parsed: list[Any], message: dict[str, Any], mode: Mode, is_system: Callable[[Any], bool]
) -> list[str]:
    """Put ``message``, system text, into a list of messages; the others keep their exact text."""
    system = [index for index, item in enumerate(parsed) if is_system(item)]
    written = json.dumps(message, separators=(",", ":"))
    match mode:
        case "replace":
            return [written, *(text for index, text in enumerate(texts) if index not in system)]
        case "append":
            after = system[-1] + 1 if system else 0
            return [*texts[:after], written, *texts[after:]]
        case "insert" if system:
            head = system[0]
            content = join_content(message["content"], parsed[head].get("content"))
            return [*texts[:head], with_member(texts[head], "content", content), *texts[head + 1 :]]
        case _:
            return [written, *texts]


def join_content(prompt: str, content: Any) -> Any:
    """``prompt`` and the content of a message as one content."""
    if isinstance(content, list):
        kind = next((part["type"] for part in content if isinstance(part, dict) and _is_text(part)), "text")
        return [{"type": kind, "text": prompt}, *content]
    return joined(prompt, content) if isinstance(content, str) else prompt


def objects(request: Body, name: str) -> list[dict[str, Any]]:
    """A top-level member that is a list of objects; an absent or ``null`` one is empty.

    Raises:
        MalformedRequest: it is something else.
    """
    value = request.get(name)
    if value is None:
        return []
    if not isinstance(value, list):
        raise MalformedRequest(f"`{name}` must be an array", name)
    for index, item in enumerate(value):
        if not isinstance(item, dict):
            raise MalformedRequest(f"{name}[{index}] must be an object", f"{name}[{index}]")
    return value


def text_of(content: Any) -> str:
    """The words of a message: its string, or its text parts joined by newlines; images and the like are left out."""
    if isinstance(content, str):
        return content
    return "\n".join(_texts(content))


def blocks_of(content: Any) -> tuple[str, ...]:
    """The texts of a message that has several, else none."""
    blocks = () if isinstance(content, str) else _texts(content)
    return blocks if len(blocks) > 1 else ()


def _texts(content: Any) -> tuple[str, ...]:
    texts = (part if isinstance(part, str) else _text(part) for part in parts_of(content))
    return tuple(text for text in texts if text)


def images_in(content: Any) -> int:
    if isinstance(content, str):
        return 0
    return sum(isinstance(part, dict) and named(part, "type") in IMAGE_PARTS for part in parts_of(content))


def parts_of(content: Any) -> list[Any]:
    return content if isinstance(content, list) else []


def tokens_in(value: Any) -> bool:
    """Whether a prompt is a list of tokens, or one of such lists."""
    return isinstance(value, list) and any(not isinstance(item, str | dict) for item in value)


def role_of(message: dict[str, Any]) -> str:
    return named(message, "role")


def named(item: dict[str, Any], name: str) -> str:
    """The string that ``item`` has under ``name``, or none."""
    value = item.get(name)
    return value if isinstance(value, str) else ""


def joined(*texts: str | None) -> str:
    """Texts as paragraphs of one."""
    return "\n\n".join(text for text in texts if text)


def _text(part: Any) -> str:
    return named(part, "text") if isinstance(part, dict) else ""


def _is_text(part: Any) -> bool:
    return isinstance(part, str) or (isinstance(part, dict) and named(part, "type") in TEXT_PARTS)
