"""Every shape of a known client, and whole requests of two agents and some front ends."""

from __future__ import annotations

import json
from typing import Any

import pytest

from triton_router.dialects import ChatRequest, CompletionsRequest, MessagesRequest, ModelRequest, ResponsesRequest
from triton_router.parts import SHAPES, Part, PartReader, Parts, Shape

QUESTION = "Why did the Roman Republic fall?"
NOTE = "A shop in TypeScript: run the linter before each commit, and work step by step."


def read(body: dict[str, Any], dialect: type[ModelRequest] = ChatRequest) -> Parts:
    return PartReader().read(dialect.parse(json.dumps(body).encode()))


def read_text(text: str) -> Parts:
    return read({"messages": [{"role": "user", "content": text}]})


def block(text: str, kind: str = "text") -> dict[str, str]:
    return {"type": kind, "text": text}


def named(shape: Shape) -> str:
    return f"{shape.client}: {shape.tag or shape.label}"


def written(shape: Shape, text: str) -> str:
    return f"<{shape.tag}>\n{text}\n</{shape.tag}>" if shape.tag else f"{shape.label}: {text}"


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape.reading == "words"], ids=named)
def test_a_mark_of_the_persons_words(shape: Shape) -> None:
    assert read_text(f"Follow the rules of the house.\n\n{written(shape, QUESTION)}").words == QUESTION


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape.reading == "context"], ids=named)
def test_a_mark_of_context(shape: Shape) -> None:
    for text in (f"{written(shape, NOTE)}\n\n{QUESTION}", f"{QUESTION}\n\n{written(shape, NOTE)}"):
        parts = read_text(text)
        assert parts.words == QUESTION
        assert any(part.kind == "context" and "linter" in part.text for part in parts.judged)


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape.reading == "history"], ids=named)
def test_a_mark_of_a_transcript(shape: Shape) -> None:
    turns = f"USER: {QUESTION}\nASSISTANT: For many reasons."
    parts = read_text(f"Write a title for the chat.\n\n{written(shape, chr(10) + turns)}")
    assert (parts.words, parts.task) == (QUESTION, "title")


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape.reading == "template"], ids=named)
def test_a_mark_of_directions(shape: Shape) -> None:
    assert read_text(f"{written(shape, 'be brief')}\n\n<user_query>{QUESTION}</user_query>").words == QUESTION


def test_marks_of_an_operator() -> None:
    text = f"<bulletin>{NOTE}</bulletin>\n{QUESTION}"
    assert read_text(text).words == QUESTION
    reader = PartReader([Shape("our desk", "words", tag="bulletin")])
    assert reader.read(ChatRequest.saying(text)).words == NOTE
    own = [Shape("our desk", "context", label="Case file"), Shape("our desk", "words", tag="caller")]
    reader = PartReader(own)
    request = ChatRequest.saying(f"Case file:\n{NOTE}\n\n<caller>{QUESTION}</caller>")
    assert reader.read(request).words == QUESTION


def test_an_operators_mark_takes_the_place_of_ours() -> None:
    reader = PartReader([Shape("our desk", "context", tag="task")])
    assert reader.read(ChatRequest.saying(f"<task>{NOTE}</task>\n{QUESTION}")).words == QUESTION


# --- Claude Code -----------------------------------------------------------------------------------------------------

REMINDER = f"<system-reminder>\nContext for the questions:\n# projectNote\n{NOTE}\n</system-reminder>\n"


def claude_code(*after: dict[str, Any]) -> dict[str, Any]:
    """Its first message has a reminder in front of the question; a system message with its agents' names follows."""
    question = {"role": "user", "content": [block(REMINDER), block(QUESTION)]}
    agents = {"role": "system", "content": "These agents may be called:\n- reviewer: looks at a change\n"}
    return {"max_tokens": 9, "system": [block("You are a coding agent.")], "messages": [question, agents, *after]}


def result(number: int, *more: dict[str, Any]) -> list[dict[str, Any]]:
    call = {"type": "tool_use", "id": f"c{number}", "name": "Bash", "input": {"command": "ls"}}
    answered = {"type": "tool_result", "tool_use_id": f"c{number}", "content": "README.md\nsrc"}
    return [{"role": "assistant", "content": [call]}, {"role": "user", "content": [answered, *more]}]


def test_claude_code_before_its_question() -> None:
    parts = read(claude_code(), MessagesRequest)
    assert parts.words == QUESTION
    assert [part.kind for part in parts.all()] == ["system", "context", "words", "system"]


@pytest.mark.parametrize("turns", [1, 2, 5])
def test_claude_code_in_a_tool_loop(turns: int) -> None:
    todo = block("<system-reminder>\nNo list of things to do was made yet.\n</system-reminder>")
    after = [message for number in range(turns) for message in result(number, *([todo] if number % 2 == 0 else []))]
    assert read(claude_code(*after), MessagesRequest).words == QUESTION


def test_claude_code_asked_again_behind_a_loop() -> None:
    after = [*result(1), {"role": "assistant", "content": "For many reasons."}]
    follow = read(
        claude_code(*after, {"role": "user", "content": [block(REMINDER), block("and why?")]}), MessagesRequest
    )
    assert follow.words == f"{QUESTION}\nand why?"
    assert follow.topic == QUESTION
    other = read(claude_code(*after, {"role": "user", "content": "How do whales sleep?"}), MessagesRequest)
    assert other.words == "How do whales sleep?"


COMPACT = """IMPORTANT: Answer in plain text. Do NOT use a tool.

- Read, Bash and Edit will fail: this is your last turn.

Now write a detailed summary of the conversation so far, with what was asked and what was done.
Before you do, think in <analysis> tags. Name these:

1. Requests: all that the user asked for
2. Files: which were read or changed, with the code that matters
3. Tests: which fail, step by step
"""


def test_claude_code_shortens_its_history() -> None:
    loop = result(1)
    for after in (
        [*loop, {"role": "assistant", "content": "For many reasons."}, {"role": "user", "content": [block(COMPACT)]}],
        [loop[0], {"role": "user", "content": [*loop[1]["content"], block(COMPACT)]}],
    ):
        parts = read(claude_code(*after), MessagesRequest)
        assert (parts.task, parts.words) == ("summary", QUESTION)
    unanswered = claude_code()
    unanswered["messages"][0]["content"].append(block(COMPACT))
    parts = read(unanswered, MessagesRequest)
    assert (parts.task, parts.words) == ("summary", QUESTION)


SUMMARY = """This session is continued from a previous conversation that was too long. Here is its summary.

1. Requests: the user asks why the Roman Republic fell
2. Tests: the parser's fail; walk through them step by step
"""


def test_claude_code_goes_on_from_a_summary() -> None:
    compacted = claude_code()
    compacted["messages"][0]["content"][1] = block(SUMMARY)
    assert read(compacted, MessagesRequest).words == SUMMARY.strip()
    compacted["messages"] += [{"role": "assistant", "content": "Done."}, {"role": "user", "content": QUESTION}]
    compacted["messages"] += result(1)
    assert read(compacted, MessagesRequest).words == QUESTION


# --- Codex -----------------------------------------------------------------------------------------------------------


def item(*texts: str, role: str = "user") -> dict[str, Any]:
    return {"type": "message", "role": role, "content": [block(text, "input_text") for text in texts]}


def codex(*after: dict[str, Any]) -> dict[str, Any]:
    note = f"# AGENTS.md instructions for /srv/shop\n\n<INSTRUCTIONS>\n{NOTE}\n\n</INSTRUCTIONS>"
    environment = "<environment_context>\n  <cwd>/srv/shop</cwd>\n  <shell>bash</shell>\n</environment_context>"
    rules = "<permissions instructions>\nAll commands may run.\n</permissions instructions>"
    return {"input": [item(rules, role="developer"), item(note, environment), item(QUESTION), *after]}


def test_codex_in_a_tool_loop() -> None:
    loop = [
        entry
        for number in range(5)
        for entry in (
            {"type": "function_call", "call_id": f"c{number}", "name": "exec_command", "arguments": "{}"},
            {"type": "function_call_output", "call_id": f"c{number}", "output": "Exit code: 0\nOutput:\nREADME.md\n"},
        )
    ]
    for after in ([], loop[:2], loop):
        assert read(codex(*after), ResponsesRequest).words == QUESTION
    answer = {"type": "message", "role": "assistant", "content": [block("Debts and generals.", "output_text")]}
    assert read(codex(*loop, answer, item("continue")), ResponsesRequest).topic == QUESTION


def test_codex_shortens_its_history_and_goes_on_from_it() -> None:
    loop = [
        {"type": "function_call", "call_id": "c", "name": "exec_command", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": f"Exit code: 0\nOutput:\n{NOTE}\n"},
    ]
    compact = item("The context is full. Write a handoff summary for another LLM, which will go on:\n- what is done\n")
    parts = read(codex(*loop, compact), ResponsesRequest)
    assert (parts.task, parts.words) == ("summary", QUESTION)
    summary = item(f"Build on the work of another model. This is the summary produced by the other model:\n{NOTE}")
    for after in ([summary], [summary, *loop]):
        parts = read(codex(*after), ResponsesRequest)
        assert (parts.task, parts.words) == (None, QUESTION)


def test_people_speak_of_summaries_too() -> None:
    for text in (
        "Write a summary of the French Revolution for the next class.",
        "What is context compaction in agents that use another model?",
        "How is a war continued from the previous one?",
    ):
        assert (read_text(text).task, read_text(text).words) == (None, text)


def test_codex_tells_of_a_new_environment() -> None:
    environment = item("<environment_context>\n  <cwd>/srv/other</cwd>\n</environment_context>")
    assert read(codex(environment), ResponsesRequest).words == QUESTION


# --- others ----------------------------------------------------------------------------------------------------------


def test_a_front_end_that_retrieves() -> None:
    text = (
        "### Task:\nAnswer with the context.\n\n### Guidelines:\n- Cite sources.\n\n### Example:\nAs in [1].\n\n"
        f'<context>\n<source id="1">{NOTE}</source>\n</context>\n\n'
        f"<user_query>\n{QUESTION}\n</user_query>"
    )
    parts = read_text(text)
    assert (parts.words, parts.task) == (QUESTION, None)


def test_a_prompt_of_the_completions_api() -> None:
    body = {"prompt": f"Context: Kubernetes runs containers.\nQuestion: {QUESTION}\nAnswer:"}
    assert read(body, CompletionsRequest).words == QUESTION


def test_a_note_as_a_block_of_its_own() -> None:
    parts = read(
        {"max_tokens": 9, "messages": [{"role": "user", "content": [block(NOTE), block(QUESTION)]}]}, MessagesRequest
    )
    assert parts.judged == [Part("context", NOTE, "position"), Part("words", QUESTION)]
