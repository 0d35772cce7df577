"""Wrappers: what programs put around a prompt, and whether the router still judges the prompt's own words.

Each wrapper is written in our own words after the shape of real clients' requests. ``known`` ones are those whose
marks are in `router/parts/shapes.py`; the others test the general rules.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from triton_router.dialects import ChatRequest, MessagesRequest, ModelRequest, ResponsesRequest
from triton_router.parts import PartReader

Body = dict[str, Any]


class Wrapper(NamedTuple):
    name: str
    known: bool
    dialect: type[ModelRequest]
    body: Callable[[str], Body]


class Share(NamedTuple):
    """How many of ``rows`` keep their words in a wrapper, and how many their domain (``None``: not asked)."""

    name: str
    known: bool
    rows: int
    same_words: int
    same_domain: int | None = None


NOTE = """# Notes for this repository
A web service in TypeScript with a PostgreSQL database. Run the linter and all tests before each commit.
Work step by step and keep changes small; migrations live in `db/migrations`. Never edit generated code."""
CLUSTER = """Kubernetes schedules containers onto nodes. A Deployment keeps a number of replicas of a pod alive, a Service
gives them one address, and an Ingress lets traffic from outside reach them. Rolling updates replace pods in turns."""
LEASE = """The tenant pays the rent on the third working day of each month. The landlord may end the lease with three
months' notice if the tenant is in arrears with two payments. Deposits are returned within six months."""
REEF = """Coral reefs cover less than one percent of the sea floor and shelter a quarter of all species in it. Warm water
makes corals expel the algae that feed them, which leaves them white."""
CODE = """export async function createInvoice(request: Request) {
  const body = await request.json();
  return database.insert("invoices", body);
}"""
LOG = """2026-03-02T08:11:04Z INFO  scheduler started
2026-03-02T08:11:06Z WARN  worker 3 did not answer in 2000 ms
2026-03-02T08:11:09Z ERROR connection to 10.0.4.7:5432 refused
2026-03-02T08:11:09Z INFO  trying again in 5 s"""


def _chat(*texts: str) -> Body:
    """Turns of a user and an assistant, beginning with the user's."""
    return {
        "messages": [
            {"role": "assistant" if number % 2 else "user", "content": text} for number, text in enumerate(texts)
        ]
    }


def _blocks(*texts: str) -> Body:
    return {"max_tokens": 100, "messages": [{"role": "user", "content": [_text(text) for text in texts]}]}


def _text(text: str) -> Body:
    return {"type": "text", "text": text}


def _todo_behind_result(prompt: str) -> Body:
    call = {"type": "tool_use", "id": "call-1", "name": "list_files", "input": {"path": "."}}
    result = {"type": "tool_result", "tool_use_id": "call-1", "content": "src\ntests\npackage.json"}
    reminder = _text(
        "<system-reminder>\nYour list of things to do is empty. Begin one if the task has steps.\n</system-reminder>"
    )
    return {
        "max_tokens": 100,
        "messages": [
            {"role": "user", "content": [_text(f"<system-reminder>\n{NOTE}\n</system-reminder>"), _text(prompt)]},
            {"role": "assistant", "content": [_text("I look at the files first."), call]},
            {"role": "user", "content": [result, reminder]},
        ],
    }


def _agent_items(prompt: str) -> Body:
    environment = "<environment_context>\n  <cwd>/srv/shop</cwd>\n  <shell>zsh</shell>\n</environment_context>"
    note = f"# AGENTS.md instructions for /srv/shop\n\n<INSTRUCTIONS>\n{NOTE}\n</INSTRUCTIONS>"
    return {
        "input": [
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text} for text in texts]}
            for texts in ([note, environment], [prompt])
        ]
    }


def _front_end(kind: str) -> Callable[[str], Body]:
    return lambda prompt: _chat(
        f"### Task:\n{kind}\n\n### Guidelines:\n- Use the language of the chat.\n- Be brief.\n\n### Output:\n"
        f"JSON only.\n\n### Chat History:\n<chat_history>\nUSER: {prompt}\nASSISTANT: Here is what I know about it.\n"
        "</chat_history>"
    )


def _line_of_json(prompt: str) -> Body:
    told = {"channel": "support", "sender": "u-1729", "sent": "2026-03-02T08:11:04Z", "locale": "en-GB"}
    return _chat(f"{json.dumps(told)}\n{prompt}")


def _quoted_thread(prompt: str) -> Body:
    thread = "\n".join(f"> {line}" for line in f"Hello all,\n{LEASE}\nBest wishes, Ines".split("\n"))
    return _chat(f"{prompt}\n\nOn Mon, 2 Mar 2026 at 09:14, Ines Roth <ines@example.org> wrote:\n{thread}")


WRAPPERS: tuple[Wrapper, ...] = (
    Wrapper(
        "agent: reminder before",
        True,
        MessagesRequest,
        lambda p: _blocks(
            "<system-reminder>\nContext that may help:\n# currentDate\nIt is 2026-03-02.\n</system-reminder>", p
        ),
    ),
    Wrapper(
        "agent: project note",
        True,
        MessagesRequest,
        lambda p: _blocks(f"<system-reminder>\nContext that may help:\n# projectNote\n{NOTE}\n</system-reminder>\n", p),
    ),
    Wrapper(
        "agent: reminder in one text",
        True,
        ChatRequest,
        lambda p: _chat(f"<system-reminder>\n{NOTE}\n</system-reminder>\n\n{p}"),
    ),
    Wrapper("agent: reminder behind a result", True, MessagesRequest, _todo_behind_result),
    Wrapper("agent: note and environment as items", True, ResponsesRequest, _agent_items),
    Wrapper(
        "agent: environment after the task",
        True,
        ChatRequest,
        lambda p: _chat(
            f"<task>\n{p}\n</task>\n\n<environment_details>\n# Visible files\nsrc/invoice.ts\n# Mode\nact\n</environment_details>"
        ),
    ),
    Wrapper(
        "editor: open files, query",
        True,
        ChatRequest,
        lambda p: _chat(
            f"<open_files>\nsrc/invoice.ts\n```ts\n{CODE}\n```\n</open_files>\n<user_query>\n{p}\n</user_query>"
        ),
    ),
    Wrapper(
        "editor: attachments, request",
        True,
        ChatRequest,
        lambda p: _chat(
            f'<attachments>\n<attachment id="invoice.ts">\n{CODE}\n</attachment>\n</attachments>\n'
            f"<reminderInstructions>\nDo not repeat code.\n</reminderInstructions>\n<userRequest>\n{p}\n</userRequest>"
        ),
    ),
    Wrapper(
        "editor: headings, request last",
        True,
        ChatRequest,
        lambda p: _chat(
            "# Context from my IDE setup:\n\n## Active file: src/invoice.ts\n\n## Open tabs:\n- invoice.ts: src/invoice.ts\n\n"
            f"## My request for Codex:\n{p}"
        ),
    ),
    Wrapper(
        "retrieval: context first",
        True,
        ChatRequest,
        lambda p: _chat(
            f"Use the context to answer. If it does not help, say so.\n\nContext: {CLUSTER}\n\n{LEASE}\n\nQuestion: {p}\nAnswer:"
        ),
    ),
    Wrapper(
        "retrieval: question first", True, ChatRequest, lambda p: _chat(f"Question: {p}\n\nContext:\n{LEASE}\n\n{REEF}")
    ),
    Wrapper(
        "retrieval: numbered documents",
        True,
        ChatRequest,
        lambda p: _chat(f"Document 1: {CLUSTER}\n\nDocument 2: {LEASE}\n\nDocument 3: {REEF}\n\nQuestion: {p}"),
    ),
    Wrapper(
        "retrieval: numbers in brackets",
        True,
        ChatRequest,
        lambda p: _chat(f"Search results:\n\n[1] {CLUSTER}\n\n[2] {LEASE}\n\n[3] {REEF}\n\n{p}"),
    ),
    Wrapper(
        "retrieval: XML",
        True,
        ChatRequest,
        lambda p: _chat(
            f'<documents>\n<document index="1">\n<title>Leases</title>\n{LEASE}\n</document>\n<document index="2">\n{CLUSTER}\n'
            f"</document>\n</documents>\n\n{p}"
        ),
    ),
    Wrapper("front end: title", True, ChatRequest, _front_end("Write a title of three to five words for the chat.")),
    Wrapper(
        "front end: tags", True, ChatRequest, _front_end("Give one to three broad tags for the subjects of the chat.")
    ),
    Wrapper(
        "front end: follow-ups",
        True,
        ChatRequest,
        _front_end("Suggest three follow-up questions that the user could ask next."),
    ),
    Wrapper("prefix: date in brackets", True, ChatRequest, lambda p: _chat(f"[Mon 2026-03-02 09:14 UTC] {p}")),
    Wrapper("prefix: date as a line", True, ChatRequest, lambda p: _chat(f"Current date: Monday, 2 March 2026\n\n{p}")),
    Wrapper("prefix: JSON", True, ChatRequest, _line_of_json),
    Wrapper("mail: quoted thread below", True, ChatRequest, _quoted_thread),
    Wrapper("pasted: log below", True, ChatRequest, lambda p: _chat(f"{p}\n\n{LOG}")),
    Wrapper(
        "unlisted: bulletin in tags",
        False,
        ChatRequest,
        lambda p: _chat(f'<tenant_bulletin version="3">\n{NOTE}\n</tenant_bulletin>\n\n{p}'),
    ),
    Wrapper(
        "unlisted: envelope of tags",
        False,
        ChatRequest,
        lambda p: _chat(
            f'<retrieval_pack>\n<snippet rank="1">{LEASE}</snippet>\n<snippet rank="2">{REEF}</snippet>\n</retrieval_pack>\n{p}\n'
            "<answer_policy>Cite snippets by rank.</answer_policy>"
        ),
    ),
    Wrapper(
        "unlisted: block on each turn",
        False,
        ChatRequest,
        lambda p: _chat(
            "House rules of the workspace that every bot in this channel has to keep in mind.\n\nTell me how rolling updates work.",
            "They replace pods one after the other.",
            f"House rules of the workspace that every bot in this channel has to keep in mind.\n\n{p}",
        ),
    ),
    Wrapper("unlisted: code behind the question", False, ChatRequest, lambda p: _chat(f"{p}\n\n```ts\n{CODE}\n```")),
    Wrapper(
        "unlisted: metadata in a fence",
        False,
        MessagesRequest,
        lambda p: _blocks(
            f'Sender information (not checked):\n```json\n{{"name": "Ines", "channel": "support"}}\n```\n\n{p}'
        ),
    ),
    Wrapper(
        "unlisted: block as a message part",
        False,
        MessagesRequest,
        lambda p: _blocks(
            f"<workspace-state>\n{NOTE}\n</workspace-state>", p, "<ui-hints>\nThe panel is narrow.\n</ui-hints>"
        ),
    ),
)


def shares(texts: Sequence[str], domains: Callable[[Sequence[str]], Sequence[str]] | None = None) -> list[Share]:
    """How the words of ``texts`` fare in each wrapper. ``domains`` names the domain of each of some texts."""
    reader = PartReader()
    plain = [reader.read(ChatRequest.saying(text)).topic for text in texts]
    known = dict(zip(plain, domains(plain), strict=True)) if domains else {}
    measured = []
    for wrapper in WRAPPERS:
        wrapped = [reader.read(wrapper.dialect.parse(orjson.dumps(wrapper.body(text)))).topic for text in texts]
        same = sum(a == b for a, b in zip(plain, wrapped, strict=True))
        agreed = None
        if domains:
            # A domain is a function of the words: only other words have to be judged.
            new = list(dict.fromkeys(words for words in wrapped if words not in known))
            known |= dict(zip(new, domains(new), strict=True))
            agreed = sum(known[a] == known[b] for a, b in zip(plain, wrapped, strict=True))
        measured.append(Share(wrapper.name, wrapper.known, len(texts), same, agreed))
    return measured


def read(path: Path) -> list[str]:
    """The texts of labelled JSON lines. Raises ``ValueError`` where there is none."""
    texts = [text for line in path.read_text().splitlines() if line and (text := json.loads(line)["text"].strip())]
    if not texts:
        raise ValueError(f"{path}: no row with a text")
    return texts


def table(measured: Mapping[str, Sequence[Share]]) -> str:
    """A Markdown table, one row a wrapper and set."""
    lines = ["| set | wrapper | known | rows | same words | same domain |", "| --- | --- | --- | ---: | ---: | ---: |"]
    for name, rows in measured.items():
        for row in rows:
            domain = "" if row.same_domain is None else f"{row.same_domain / row.rows:.1%}"
            known = "yes" if row.known else "no"
            lines.append(f"| {name} | {row.name} | {known} | {row.rows} | {row.same_words / row.rows:.1%} | {domain} |")
    return "\n".join(lines)
