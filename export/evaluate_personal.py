"""The command `evaluate-personal`: what is found of personal data in labelled texts, and what disguises cost."""

from __future__ import annotations

import argparse
import base64
import codecs
import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from export.repository import CPU_GRAPH
from triton_router import personal, tagged
from triton_router.inference.bundle import load_bundle
from triton_router.inference.windows import Windows
from triton_router.signals.pii import beside

Find = Callable[[str], list[personal.Finding]]

MEASURED = ("PERSON", "STREET_ADDRESS", "PHONE_NUMBER", "EMAIL_ADDRESS", "CREDIT_CARD", "IBAN_CODE", "US_SSN",
            "IP_ADDRESS")  # fmt: skip
_ADDRESS = {"STREET_ADDRESS", "GPE", "ZIP_CODE"}
_DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]

AS_WRITTEN = "as written"
# What somebody may do to a value that is to pass unseen.
DISGUISES: dict[str, Callable[[str], str]] = {
    AS_WRITTEN: lambda value: value,
    "characters without width": lambda value: "\u200b".join(value),
    "full-width characters": lambda value: re.sub(r"[!-~]", lambda match: chr(ord(match[0]) + 0xFEE0), value),
    "spaces between all characters": lambda value: " ".join(value),
    "dots for spaces and hyphens": lambda value: re.sub(r"[ -]", ".", value),
    "digits in words": lambda value: re.sub(r"\d", lambda match: f" {_DIGITS[int(match[0])]} ", value),
    "at and dot in words": lambda value: value.replace("@", " at ").replace(".", " dot "),
    "at and dot in brackets": lambda value: value.replace("@", " (at) ").replace(".", " [dot] "),
    "turned around": lambda value: value[::-1],
    "base64": lambda value: base64.b64encode(value.encode()).decode(),
    "hexadecimal": lambda value: value.encode().hex(),
    "ROT13": lambda value: codecs.encode(value, "rot13"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data", type=Path, required=True, help='JSON lines {"text", "spans": [[start, end, type], ...]}'
    )
    parser.add_argument("--prompts", type=Path, help='JSON lines {"text"} of ordinary prompts')
    parser.add_argument(
        "--repository", type=Path, help="Triton model repository whose tagger finds names and addresses too"
    )


def run(arguments: argparse.Namespace) -> None:
    rows = _rows(arguments.data)
    find = cache(personal.find if arguments.repository is None else tagger(arguments.repository))
    print(f"{'type':14} labelled  exact  touched  elsewhere")
    for type, (labelled, exact, touched, elsewhere) in scores(rows, find).items():
        print(f"{type:14} {labelled:8} {exact:6} {touched:8} {elsewhere:10}")
    print(f"\nmicro F1 over {', '.join(MEASURED)}: {_both(rows, find)}")
    joined = [whole(row) for row in rows]
    print(f"with the labels of one address joined: {_both(joined, find)}")
    perfect = {row["text"]: [personal.Finding(*span) for span in row["spans"]] for row in joined}
    print(f"at most, if every finding were right and every address whole: {_both(rows, perfect.__getitem__)}")
    clean = [row["text"] for row in rows if not row["spans"]]
    print(f"texts without personal data: {_share(clean, find)}")
    if arguments.prompts is not None:
        print(f"ordinary prompts: {_share([row['text'] for row in _rows(arguments.prompts)], find)}")
    print()
    for name, (values, count) in disguised(rows).items():
        print(f"{name:30} {count} of {values}")


def tagger(repository: Path) -> Find:
    """What finds personal data by rule, and names and addresses by the tagger of a bundle, on ONNX Runtime.

    Raises StopIteration where the bundle has none.
    """
    import onnxruntime as ort

    bundle, tokenizers = load_bundle(repository / "bundle.json")
    trunk, head = next((each, head) for each in bundle.trunks if (head := each.head(tagged.HEAD)) and head.per_token)
    rows = Windows(trunk, tokenizers[trunk.name])
    graph = repository / trunk.model / "1" / CPU_GRAPH
    session = ort.InferenceSession(str(graph), providers=["CPUExecutionProvider"])

    def read(ids: list[int], places: list[tuple[int, int]]) -> tagged.Tagging:
        batch = rows.pad([ids])
        (values,) = session.run([head.output], {trunk.inputs.ids: batch.ids, trunk.inputs.mask: batch.mask})
        return tagged.Tagging(places, values[0][1 : len(ids) - 1])

    def find(text: str) -> list[personal.Finding]:
        tags = [
            tag._replace(start=tag.start + place, end=tag.end + place)
            for place, piece in tagged.windows(text)
            for tag in tagged.tags(piece, [read(*each) for each in rows.placed(piece)], head.labels)
        ]
        rules = personal.find(text)
        return sorted([*rules, *beside(text, rules, tagged.findings(text, tags))])

    return find


def whole(row: dict[str, Any]) -> dict[str, Any]:
    """``row`` with labels of an address that stand together as one: some sets label its parts, a finding is all of
    it."""
    spans: list[tuple[int, int, str]] = []
    for start, end, type in sorted(map(tuple, row["spans"])):
        beside = spans and {type, spans[-1][2]} <= _ADDRESS and not row["text"][spans[-1][1] : start].strip(" ,?\n")
        if beside and "STREET_ADDRESS" in (type, spans[-1][2]):
            spans[-1] = spans[-1][0], end, "STREET_ADDRESS"
        else:
            spans.append((start, end, type))
    return row | {"spans": spans}


def _both(rows: Sequence[dict[str, Any]], find: Find) -> str:
    exact, overlapping = (f1(rows, find, overlapping=each) for each in (False, True))
    return f"{exact:.3f} exact, {overlapping:.3f} overlapping"


def f1(rows: Sequence[dict[str, Any]], find: Find, *, overlapping: bool) -> float:
    """Micro F1 over the types of ``MEASURED``; a finding that overlaps a label of its type may count for it."""
    labelled = right = reported = true = 0
    for row in rows:
        labels = [(start, end, type) for start, end, type in row["spans"] if type in MEASURED]
        findings = [tuple(each) for each in find(row["text"]) if each.type in MEASURED]

        def same(one: Any, two: Any) -> bool:
            if not overlapping:
                return bool(one == two)
            return bool(one[2] == two[2] and one[0] < two[1] and two[0] < one[1])

        labelled, reported = labelled + len(labels), reported + len(findings)
        right += sum(any(same(label, each) for each in findings) for label in labels)
        true += sum(any(same(label, each) for label in labels) for each in findings)
    recall, precision = right / max(labelled, 1), true / max(reported, 1)
    return 2 * recall * precision / max(recall + precision, 1e-9)


def scores(rows: Sequence[dict[str, Any]], find: Find = personal.find) -> dict[str, tuple[int, int, int, int]]:
    """By type: labelled spans, those found exactly and at least touched, findings that touch no label of any type."""
    labelled, exact, touched, elsewhere = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
    for row in rows:
        findings = find(row["text"])
        for start, end, type in row["spans"]:
            same = [each for each in findings if each.type == type]
            labelled[type] += 1
            exact[type] += (start, end, type) in same
            touched[type] += any(each.start < end and start < each.end for each in same)
        for each in findings:
            elsewhere[each.type] += not any(each.start < end and start < each.end for start, end, _ in row["spans"])
    types = [*personal.TYPES, *(type for type in tagged.TYPES if exact[type] or elsewhere[type])]
    return {type: (labelled[type], exact[type], touched[type], elsewhere[type]) for type in types}


def disguised(rows: Sequence[dict[str, Any]]) -> dict[str, tuple[int, int]]:
    """By disguise: of the values that the rules find as written, how many it changes, and how many of these they still
    see."""
    values = [
        (row["text"][:start], row["text"][start:end], row["text"][end:], type)
        for row in rows
        for start, end, type in row["spans"]
        if any((each.start, each.end, each.type) == (start, end, type) for each in personal.find(row["text"]))
    ]
    counts = {}
    for name, hide in DISGUISES.items():
        changed = [value for value in values if hide(value[1]) != value[1] or name == AS_WRITTEN]
        seen = [type in personal.types(before + hide(value) + behind) for before, value, behind, type in changed]
        counts[name] = len(seen), sum(seen)
    return counts


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _share(texts: Sequence[str], find: Find) -> str:
    types_of = [{each.type for each in find(text)} | personal.types(text) for text in texts]
    count, other = sum(map(bool, types_of)), sum(bool(types - {"PERSON"}) for types in types_of)
    share = f"{count} of {len(texts)} with a finding ({count / max(len(texts), 1):.1%})"
    return share if other == count else f"{share}, {other} with one that is no name ({other / len(texts):.1%})"
