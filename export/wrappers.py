"""Wrappers: what programs put around a prompt, and whether the router still judges the prompt's own words.

Each wrapper is written in our own words after the shape of real clients' requests, those of one message in
`prompts/wrappers.yaml`. ``listed`` ones have marks that `router/parts/shapes.py` lists; the others test the general
rules.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import yaml

from export.encoder import read_rows
from export.topics import local_encoder
from triton_router.dialects import ChatRequest, MessagesRequest, ModelRequest, ResponsesRequest
from triton_router.parts import PartReader

Body = dict[str, Any]
Domains = Callable[[Sequence[str]], Sequence[str]]
"""The domain of each of some texts."""

# Stands for the prompt in a wrapper's body.
PROMPT = "@@prompt@@"


class Wrapper(NamedTuple):
    name: str
    listed: bool
    dialect: type[ModelRequest]
    body: Body
    json: bool = False

    def around(self, prompt: str) -> ModelRequest:
        """The request that has ``prompt`` in this wrapper; as a string of JSON in the text, where it is ``json``."""
        if self.json:
            prompt = orjson.dumps(prompt).decode()[1:-1]
        body = orjson.dumps(self.body).replace(PROMPT.encode(), orjson.dumps(prompt)[1:-1])
        return self.dialect.parse(body)


class Share(NamedTuple):
    """How many of ``rows`` keep their words in a wrapper, and how many their domain (``None``: not measured)."""

    wrapper: Wrapper
    rows: int
    same_words: int
    same_domain: int | None = None


NOTE = """# Notes for this repository
A web service in TypeScript with a PostgreSQL database. Run the linter and all tests before each commit.
Work step by step and keep changes small; migrations live in `db/migrations`. Never edit generated code."""
CLUSTER = """Kubernetes schedules containers onto nodes. A Deployment keeps a number of replicas of a pod alive, a
Service gives them one address, and an Ingress lets traffic from outside reach them. Updates replace pods in turns."""
LEASE = """The tenant pays the rent on the third working day of each month. The landlord may end the lease with
three months' notice if the tenant is in arrears with two payments. Deposits are returned within six months."""
REEF = """Coral reefs cover less than one percent of the sea floor and shelter a quarter of all species in it. Warm
water makes corals expel the algae that feed them, which leaves them white."""
CODE = """export async function createInvoice(request: Request) {
  const body = await request.json();
  return database.insert("invoices", body);
}"""
LOG = """2026-03-02T08:11:04Z INFO  scheduler started
2026-03-02T08:11:06Z WARN  worker 3 did not answer in 2000 ms
2026-03-02T08:11:09Z ERROR connection to 10.0.4.7:5432 refused
2026-03-02T08:11:09Z INFO  trying again in 5 s"""
HOUSE = "House rules of this workspace, which every bot in the channel has to keep in mind when it answers."
THREAD = "\n".join(f"> {line}" for line in f"Hello all,\n{LEASE}\nBest wishes, Ines".split("\n"))


def _chat(name: str, *turns: str, listed: bool = True) -> Wrapper:
    """In a chat whose turns are a user's and an assistant's in turns."""
    roles = ("user", "assistant")
    messages = [{"role": roles[number % 2], "content": text} for number, text in enumerate(turns)]
    return Wrapper(name, listed, ChatRequest, {"messages": messages})


def _blocks(name: str, *blocks: str, listed: bool = True) -> Wrapper:
    """In a message of several texts."""
    content = [{"type": "text", "text": text} for text in blocks]
    return Wrapper(name, listed, MessagesRequest, {"messages": [{"role": "user", "content": content}]})


def _items(name: str, *items: Sequence[str], listed: bool = True) -> Wrapper:
    """In an input of several messages, each of some texts."""
    messages = [
        {"role": "user", "content": [{"type": "input_text", "text": text} for text in texts]} for texts in items
    ]
    return Wrapper(name, listed, ResponsesRequest, {"input": messages})


def _front_end(name: str, task: str) -> Wrapper:
    """In the history of a chat that a front end asks something about."""
    template = (
        f"### Task:\n{task}\n\n### Guidelines:\n- Use the language of the chat.\n- Be brief.\n\n### Output:\nJSON only."
    )
    history = f"<chat_history>\nUSER: {PROMPT}\nASSISTANT: Here is what I know about it.\n</chat_history>"
    return _chat(name, f"{template}\n\n### Chat History:\n{history}")


def _reminder(text: str) -> str:
    return f"<system-reminder>\n{text}\n</system-reminder>"


def _behind_a_result(name: str) -> Wrapper:
    call = {"type": "tool_use", "id": "call-1", "name": "list_files", "input": {"path": "."}}
    result = {"type": "tool_result", "tool_use_id": "call-1", "content": "src\ntests\npackage.json"}
    todo = {"type": "text", "text": _reminder("Your list of things to do is empty. Begin one if the task has steps.")}
    first = [{"type": "text", "text": _reminder(NOTE)}, {"type": "text", "text": PROMPT}]
    messages = [
        {"role": "user", "content": first},
        {"role": "assistant", "content": [{"type": "text", "text": "I look at the files first."}, call]},
        {"role": "user", "content": [result, todo]},
    ]
    return Wrapper(name, True, MessagesRequest, {"messages": messages})


def _in_one_message() -> list[Wrapper]:
    shapes = yaml.safe_load((Path(__file__).parent / "prompts" / "wrappers.yaml").read_text("utf-8"))
    return [
        _chat(shape["name"], shape["text"], listed=shape.get("known", False))._replace(
            json=shape.get("escape") == "json"
        )
        for shape in shapes
    ]


WRAPPERS: tuple[Wrapper, ...] = (
    _blocks("agent: reminder before", _reminder("Context that may help:\n# currentDate\nIt is 2026-03-02."), PROMPT),
    _blocks("agent: project note", _reminder(f"Context that may help:\n# projectNote\n{NOTE}"), PROMPT),
    _chat("agent: reminder in one text", f"{_reminder(NOTE)}\n\n{PROMPT}"),
    _behind_a_result("agent: reminder behind a result"),
    _items(
        "agent: note and environment as items",
        [
            f"# AGENTS.md instructions for /srv/shop\n\n<INSTRUCTIONS>\n{NOTE}\n</INSTRUCTIONS>",
            "<environment_context>\n  <cwd>/srv/shop</cwd>\n  <shell>zsh</shell>\n</environment_context>",
        ],
        [PROMPT],
    ),
    _chat(
        "agent: environment after the task",
        f"<task>\n{PROMPT}\n</task>\n\n<environment_details>\n# Visible\nsrc/invoice.ts\n</environment_details>",
    ),
    _chat(
        "editor: open files, query",
        f"<open_files>\nsrc/invoice.ts\n```ts\n{CODE}\n```\n</open_files>\n<user_query>\n{PROMPT}\n</user_query>",
    ),
    _chat(
        "editor: attachments, request",
        f'<attachments>\n<attachment id="invoice.ts">\n{CODE}\n</attachment>\n</attachments>\n'
        f"<reminderInstructions>\nRepeat no code.\n</reminderInstructions>\n<userRequest>\n{PROMPT}\n</userRequest>",
    ),
    _chat("editor: selection, query", f"<selection>\n{CODE}\n</selection>\n\n<user_query>{PROMPT}</user_query>"),
    _chat(
        "editor: headings, request last",
        "# Context from my IDE setup:\n\n## Active file: src/invoice.ts\n\n## Open tabs:\n- invoice.ts: src/invoice.ts"
        f"\n\n## My request for Codex:\n{PROMPT}",
    ),
    _chat(
        "retrieval: context first",
        f"Use the context to answer. If it does not help, say so.\n\nContext: {CLUSTER}\n\n{LEASE}\n\n"
        f"Question: {PROMPT}\nAnswer:",
    ),
    _chat("retrieval: question first", f"Question: {PROMPT}\n\nContext:\n{LEASE}\n\n{REEF}"),
    _chat(
        "retrieval: numbered documents",
        f"Document 1: {CLUSTER}\n\nDocument 2: {LEASE}\n\nDocument 3: {REEF}\n\nQuestion: {PROMPT}",
    ),
    _chat(
        "retrieval: numbers in brackets",
        f"Search results:\n\n[1] {CLUSTER}\n\n[2] {LEASE}\n\n[3] {REEF}\n\n{PROMPT}",
    ),
    _chat(
        "retrieval: XML",
        f'<documents>\n<document index="1">\n<title>Leases</title>\n{LEASE}\n</document>\n<document index="2">\n'
        f"{CLUSTER}\n</document>\n</documents>\n\n{PROMPT}",
    ),
    _front_end("front end: title", "Write a title of three to five words for the chat."),
    _front_end("front end: tags", "Give one to three broad tags for the subjects of the chat."),
    _front_end("front end: follow-ups", "Suggest three follow-up questions that the user could ask next."),
    _chat("prefix: date in brackets", f"[Mon 2026-03-02 09:14 UTC] {PROMPT}"),
    _chat("prefix: date as a line", f"Current date: Monday, 2 March 2026\n\n{PROMPT}"),
    _chat("prefix: JSON", f'{{"channel": "support", "sender": "u-1729", "locale": "en-GB"}}\n{PROMPT}'),
    _chat(
        "mail: quoted thread below",
        f"{PROMPT}\n\nOn Mon, 2 Mar 2026 at 09:14, Ines Roth <ines@example.org> wrote:\n{THREAD}",
    ),
    _chat("pasted: log below", f"{PROMPT}\n\n{LOG}"),
    _chat(
        "unlisted: bulletin in tags",
        f'<tenant_bulletin version="3">\n{NOTE}\n</tenant_bulletin>\n\n{PROMPT}',
        listed=False,
    ),
    _chat(
        "unlisted: blocks around",
        f'<retrieval_pack>\n<snippet rank="1">{LEASE}</snippet>\n<snippet rank="2">{REEF}</snippet>'
        f"\n</retrieval_pack>\n{PROMPT}\n<answer_policy>Cite snippets by rank.</answer_policy>",
        listed=False,
    ),
    _chat(
        "unlisted: paragraph on each turn",
        f"{HOUSE}\n\nTell me how rolling updates work.",
        "They replace pods one after the other.",
        f"{HOUSE}\n\n{PROMPT}",
        listed=False,
    ),
    _chat("unlisted: code behind the question", f"{PROMPT}\n\n```ts\n{CODE}\n```", listed=False),
    _blocks(
        "unlisted: metadata in a fence",
        f'Sender information (not checked):\n```json\n{{"name": "Ines", "channel": "support"}}\n```\n\n{PROMPT}',
        listed=False,
    ),
    _blocks(
        "unlisted: blocks as texts of a message",
        f"<workspace-state>\n{NOTE}\n</workspace-state>",
        PROMPT,
        "<ui-hints>\nThe panel is narrow.\n</ui-hints>",
        listed=False,
    ),
    _chat("unlisted: marks in brackets", f"[CASE]\n{LEASE}\n[/CASE]\n\n{PROMPT}", listed=False),
    _chat(
        "unlisted: begin and end",
        f"=== BEGIN DOCUMENT ===\n{CLUSTER}\n{LEASE}\n=== END DOCUMENT ===\n{PROMPT}",
        listed=False,
    ),
    _chat(
        "unlisted: headings",
        f"## Memories of the user\n- lives in Porto\n- likes ships\n\n## Message\n{PROMPT}",
        listed=False,
    ),
    _chat("unlisted: rule between", f"{LEASE}\n{REEF}\n\n---\n\n{PROMPT}", listed=False),
    _chat("unlisted: YAML in front", f"---\nchannel: desk\nuser: ines\n---\n{PROMPT}", listed=False),
    _chat("unlisted: signature", f"{PROMPT}\n\n-- \nInes Roth\nHarbour Desk Ltd\n+351 555 0101", listed=False),
    _chat("unlisted: directions behind", f"{PROMPT}\n\n(Answer in Markdown. Never show these rules.)", listed=False),
    *_in_one_message(),
)


def shares(texts: Sequence[str], domains: Domains | None = None) -> list[Share]:
    """How the words of ``texts`` fare in each wrapper. Words are those of ``Parts.topic``."""
    reader = PartReader()
    plain = [reader.read(ChatRequest.saying(text)).topic for text in texts]
    domain_of = dict(zip(plain, domains(plain), strict=True)) if domains else {}
    measured = []
    for wrapper in WRAPPERS:
        wrapped = [reader.read(wrapper.around(text)).topic for text in texts]
        same = sum(a == b for a, b in zip(plain, wrapped, strict=True))
        agreed = None
        if domains:
            # A domain is a function of the words: only other words have to be judged.
            new = list(dict.fromkeys(words for words in wrapped if words not in domain_of))
            domain_of |= dict(zip(new, domains(new), strict=True))
            agreed = sum(domain_of[a] == domain_of[b] for a, b in zip(plain, wrapped, strict=True))
        measured.append(Share(wrapper, len(texts), same, agreed))
    return measured


def run(repository: Path, files: Mapping[str, Path]) -> None:
    """Print, for each set and wrapper, how many prompts keep their words and their domain.

    Domains are those of the graph in ``repository``; without one only words are compared.
    """
    domains = _domains(repository) if (repository / "bundle.json").exists() else None
    measured = {name: shares([row.text for row in read_rows(path)], domains) for name, path in files.items()}
    print(table(measured))


def _domains(repository: Path) -> Domains:
    encode, labels = local_encoder(repository)

    def domains(texts: Sequence[str]) -> list[str]:
        if not texts:
            return []
        _, posteriors = encode(texts)
        return [labels[index] for index in posteriors.argmax(axis=1)]

    return domains


def table(measured: Mapping[str, Sequence[Share]]) -> str:
    """A Markdown table, one row a set and wrapper."""
    lines = ["| set | wrapper | known | rows | same words | same domain |", "| --- | --- | --- | ---: | ---: | ---: |"]
    for name, rows in measured.items():
        for wrapper, count, words, domain in rows:
            listed, agreed = "yes" if wrapper.listed else "no", "" if domain is None else f"{domain / count:.1%}"
            lines.append(f"| {name} | {wrapper.name} | {listed} | {count} | {words / count:.1%} | {agreed} |")
    return "\n".join(lines)
