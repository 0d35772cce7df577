"""Whole envelopes of programs, made by chance: mails, threads, records, blocks in tags, attachments, and code.

Each function gives a template with one place for the prompt.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

PROMPT = "@@prompt@@"
Texts = Mapping[str, Any]
Fill = Callable[[str], str]


class Envelopes:
    """``texts`` is `envelopes` of `prompts/wrapping.yaml`; ``fill`` puts words into a line, ``block`` makes a block."""

    def __init__(self, texts: Texts, chance: random.Random, fill: Fill, block: Callable[[str], str]) -> None:
        self._texts, self._chance, self._fill, self._block = texts, chance, fill, block

    def template(self) -> str:
        [make] = self._chance.choices(
            [
                self.mail,
                self.thread,
                self.record,
                self.tagged,
                self.attached,
                self.beside,
                self.passed_on,
                self.repeated,
                self.commented,
                self.sheet,
                self.form,
                self.page,
            ],
            [25, 18, 18, 15, 13, 14, 8, 5, 5, 5, 9, 4],
        )
        return make()

    def mail(self) -> str:
        """A mail, alone or above or below what it answers."""
        language = self._chance.choice(self._texts["mails"])
        own = PROMPT
        if self._chance.random() < 0.25:
            own = f"{self._one(language['greetings'])}\n\n{own}"
        if self._chance.random() < 0.75:
            own += self._signature(language)
        if self._chance.random() < 0.12:  # between the lines that it answers
            quoted = [self._one([*language["lines"], "{s}", "{Q}"]) for _ in range(self._chance.choice([2, 3, 4]))]
            cut = self._chance.randint(1, len(quoted) - 1)
            above, below = ("\n".join(f"> {line}" for line in each) for each in (quoted[:cut], quoted[cut:]))
            own = f"{self._one(language['wrote'])}\n\n{above}\n\n{PROMPT}\n\n{below}"
        older = self._older(language) if self._chance.random() < 0.85 and ">" not in own else ""
        if self._chance.random() < 0.15:
            own, older = older, own
        parts = [self._head(language) if self._chance.random() < 0.6 else "", own, older]
        if self._chance.random() < 0.2:
            parts.insert(self._chance.choice([0, 3]), self._block(self._chance.choice(["before", "behind"])))
        return "\n\n".join(filter(None, parts))

    def _head(self, language: Texts) -> str:
        names = self._chance.choice(language["fields"])
        person = self._one(["{N} <{w}@{w}.example>", "{N}", "{w}.{w}@{w}.example"])
        values = [person, self._one(["{w}@{w}.example", "{N}", "{W} <{w}@{w}.example>"]), self._one(["{d} {t}", "{d}"])]
        lines = [f"{name}: {self._fill(value)}" for name, value in zip(names, values, strict=False)]
        subject = self._fill(self._one(["Re: {w} {w}", "{W} {w}", "Fwd: {w}", "AW: {W}", "{Q}"]))
        if self._chance.random() < 0.3:
            self._chance.shuffle(lines)
        lines = lines[: self._chance.choice([1, 2, 3, 3])]
        return "\n".join([*lines, f"{names[3]}: {subject}"])

    def passed_on(self) -> str:
        """A mail or a note in which somebody quotes what somebody else asks, and passes it on."""
        chance = self._chance
        notes, quoted = self._texts["passing"], chance.random() < 0.7
        if quoted:
            own = "@@prompt:quote@@"
        else:
            opening, _, closing = self._one(['"@@"', "“@@”", "---\n@@\n---", "«@@»", '"""\n@@\n"""']).partition("@@")
            own = f"{opening}{PROMPT}{closing}"
        parts = [self._one(notes["before"]), own]
        if chance.random() < 0.5:
            language = chance.choice(self._texts["mails"])
            parts.insert(0, self._one(language["greetings"]))
            parts.append(self._one([*notes["behind"], ""]))
            parts.append(self._signature(language).strip("\n") if chance.random() < 0.8 else "")
        elif chance.random() < 0.6:
            parts.append(self._one(notes["behind"]))
        if chance.random() < 0.3:
            parts.append(self._one(["PS: {s}", "P.S. {Q}", "PS: {s} {Q}", "NB {s}"]))
        return "\n\n".join(filter(None, parts))

    def repeated(self) -> str:
        """The prompt above a text and below it."""
        chance = self._chance
        leads = ["", "", "", "{T}:\n", "{T}: ", "{R} {T}: ", "# {T}\n", "{s}\n\n", "[{T}]\n"]
        lead = self._one(leads)
        again = lead if chance.random() < 0.5 else self._one([*leads, *self._texts["again"]])
        gap = chance.choice(["\n\n", "\n\n", "\n", "\n---\n"])
        text = "\n\n".join(
            self._element() if chance.random() < 0.2 else self._block(chance.choice(["before", "behind"]))
            for _ in range(chance.choice([1, 1, 2, 3]))
        )
        return self._between(f"{lead}{PROMPT}{gap}{text}{gap}{again}{PROMPT}", 0.2, 0.3)

    def commented(self) -> str:
        """The prompt in a comment of a program, in a fence or not."""
        chance = self._chance
        sign, fenced = chance.choice(["#", "#", "//", "--"]), chance.random() < 0.7
        lead = self._one([*self._texts["asks"], "", "", "@{w}:", "{T}:", "TODO({w}):", "{W} start"])
        own = f"{sign} {lead} @@prompt:line@@" if lead else f"{sign} @@prompt:line@@"
        if sign == "#" and chance.random() < 0.7:
            own = f"# {lead}\n@@prompt:comment@@" if lead else "@@prompt:comment@@"
        code = f"{sign} {self._one(['{w}.py', '{s}', '{w}: {Q}', 'NOTE: {s}'])}\n{self._one(self._texts['code'])}"
        parts = [own, code] if chance.random() < 0.2 else [code, own]
        if chance.random() < 0.4:
            parts.append(self._one([f"{sign} <cursor>", f"{sign} ...", f"{sign} {{w}} end", *self._texts["code"]]))
        text = chance.choice(["\n\n", "\n\n", "\n"]).join(parts)
        if chance.random() < 0.2:
            text += f"\n\n{sign} {self._one(['{s}', '{W} the {w}', 'see {w}.{w}'])}\n{self._one(self._texts['code'])}"
        if not fenced:
            return text
        direction = f"{self._one(self._texts['comments'])}\n\n" if chance.random() < 0.8 else ""
        behind = f"\n\n{self._block('behind')}" if chance.random() < 0.2 else ""
        return f"{direction}```{chance.choice(['python', '', 'js', 'sql'])}\n{text}\n```{behind}"

    def sheet(self) -> str:
        """The prompt in a row of a table with rows of others."""
        chance = self._chance
        names = self._fill("{w},{w},{w}").split(",")[: chance.choice([1, 2, 3])]
        done, new = self._one(self._texts["done"]), self._one(self._texts["open"])
        rows = [
            [*(self._one(["{n}", "{w}", "{N}", "{d}"]) for _ in names), done, f'"{self._one(["{Q}", "{Q}", "{s}"])}"']
            for _ in range(chance.choice([1, 2, 3, 5]))
        ]
        own = [*(self._one(["{n}", "{w}", "{N}", "{d}"]) for _ in names), new, "@@prompt:csv@@"]
        rows.insert(len(rows) if chance.random() < 0.5 else chance.randint(0, len(rows)), own)
        sign = chance.choice([",", ",", ";", "\t"])
        head = [*names, self._one(["status", "{w}", "state"]), self._one(self._texts["keys"])]
        text = "\n".join(sign.join(row) for row in [head, *rows])
        direction = self._one([f"Work on the row that is {new}.", "Answer the {T} in the last column.", "{s}", ""])
        return f"{direction}\n\n{text}".strip() if chance.random() < 0.7 else f"{text}\n\n{direction}".strip()

    def form(self) -> str:
        """The prompt in a section of a form with other sections above it and below it."""
        chance = self._chance
        style = chance.choice(
            [
                "{W} {0}   {1}",
                "{0}. {1}",
                "▼ {1}",
                "== {1} ==",
                "[{1}]",
                "{1}",
                "{1}:",
                "{0}) {1}",
                "■ {1}",
                "Part {0}: {1}",
            ]
        )
        lines = [
            "  {W}          {w} {w}",
            "  {W}: {w}",
            "  [x] {s}",
            "  [ ] {Q}",
            "{n}. {s}",
            '{d}  "{Q}"  {w}',
            "{W} .... {n}",
        ]
        lines += ["{N} ({R}), {t}: {Q}", "{d} · {N}\n{s} {Q}", "- {s}"]
        count = chance.choice([2, 3, 3, 4])
        place = chance.choice([0, 0, *range(count)])
        sections = []
        for number in range(count):
            title = self._one(
                ["your {T} today", "{T}", "newest", "new {T}", "{T} of {d}", "open {T}", "heutiges Anliegen"]
            )
            body = PROMPT
            if number != place:
                title = self._one(
                    ["{W} {w}", "older {T}s", "{W}", "about you", "earlier", "hints for the desk", "Angaben"]
                )
                kind = self._chance.choice(lines)
                body = "\n".join(self._one([kind, kind, *lines]) for _ in range(chance.choice([1, 2, 3, 5])))
            elif chance.random() < 0.4:
                body = f"{self._one(['{N} ({R}), {d} {t}', '{d} · {N}', '{R}:', '{t}, {N} via {w}'])}\n{PROMPT}"
            heading = self._fill(style).replace("{0}", "ABCD"[number]).replace("{1}", title)
            sections.append(f"{heading}\n{body}")
        text = chance.choice(["\n\n", "\n\n", "\n"]).join(sections)
        if chance.random() < 0.5:
            head = self._one(["{U} OF {U}", "{W} {w}   {d}", "#{n} · {W} {w}", "{W} {w}"])
            text = f"{head}\n{chance.choice(['', '=' * 40])}\n{text}"
        return text + self._one(["", "", "\n" + "=" * 40 + "\nPage {n} of {n}", "\n\n{s}", "\n\n({s})"])

    def page(self) -> str:
        """The prompt in a field of a page in HTML or of a record in XML."""
        chance = self._chance
        name, key = self._one(["textarea", "p", "td", "value", "{w}", "input"]), self._one(self._texts["keys"])
        own = (
            f'<{name} name="{key}">@@prompt:xml@@</{name}>'
            if chance.random() < 0.6
            else f"<{key}>@@prompt:xml@@</{key}>"
        )
        others = [
            "<p>{s} <b>{Q}</b></p>",
            "<span>{Q}</span>",
            '<note {w}="{n}">{s}</note>',
            "<li>{Q}</li>",
            '<input name="{w}" value="{N}">',
        ]
        items = [self._one(others) for _ in range(chance.choice([2, 3, 5, 8]))]
        items.insert(chance.randint(0, len(items)), own)
        top = self._one(["html", "form", "{w}", "{w}_{w}"])
        indent = chance.choice(["", "  ", "  "])
        text = "\n".join([f"<{top}>", *(f"{indent}{item}" for item in items), f"</{top}>"])
        return self._between(text, 0.3, 0.2)

    def _signature(self, language: Texts) -> str:
        closing, name = self._one(language["closings"]), self._fill("{N}")
        more = self._one(
            [
                "",
                "",
                "\n{W}",
                "\n{W} {w}, {W} Ltd",
                "\n{W}\n{w}.example, {n} {n}",
                "\n{W} & {W}\n{W} {w}, {n} {W} Street",
                " | {W} & {W}\n{W} {w}, {n} {W} Lane\n{s}",
                ", {W} {w}\nTel. {n} {n}\n{Q}",
                "\n{W} {w} · {w}@{w}.example",
            ]
        )
        form = self._chance.choice(
            ["{0}\n{1}{2}", "{0}\n{1}{2}", "{0},\n{1}{2}", "-- \n{1}{2}", "--\n{1} | {1}", "{1}", "{1}{2}", "{3}"]
        )
        text = form.format(closing, name, self._fill(more), self._one(language["devices"]))
        if self._chance.random() < 0.15:
            text += f"\n\n{self._one(language['devices'])}"
        return f"{self._chance.choice([chr(10) * 2, chr(10) * 2, chr(10)])}{text}"

    def _older(self, language: Texts) -> str:
        """What a mail answers or forwards: one mail or two."""
        chance = self._chance
        style = chance.choice(["quote", "quote", "quote", "title", "rule", "head"])
        mails = []
        for depth in range(1, chance.choice([2, 2, 3])):
            body = [self._one(language["greetings"]), ""] if chance.random() < 0.7 else []
            body += [self._one([*language["lines"], "{s}", "{Q}"]) for _ in range(chance.choice([1, 2, 2, 3, 5]))]
            if chance.random() < 0.6:
                body += ["", self._one(language["closings"]), self._fill("{N}")]
            if style == "quote":
                sign = ">" * depth
                wrote = self._one(language["wrote"])
                mails.append(
                    "\n".join([f"{'>' * (depth - 1)} {wrote}".strip(), *(f"{sign} {line}".strip() for line in body)])
                )
                continue
            start = {"title": self._one(language["titles"]), "rule": "_" * 32, "head": ""}[style]
            gap = "\n\n" if chance.random() < 0.85 else "\n"
            mails.append(f"{start}\n{self._head(language)}{gap}".lstrip("\n") + "\n".join(body))
        return ("\n" if style == "quote" else "\n\n").join(mails)

    def thread(self) -> str:
        """Posts of several people, the prompt's the newest: the last or the first."""
        chance = self._chance
        style, newest = chance.choice(self._texts["posts"]), self._one(self._texts["newest"])
        posts = []
        for number in range(1, chance.choice([2, 3, 4, 5, 7])):
            said = " ".join(self._one(["{Q}", "{s}", "{Q}", "{W} {w}."]) for _ in range(chance.choice([1, 1, 2])))
            posts.append(self._fill(style).replace("##", str(number)) + said)
        own = self._fill(style).replace("##", str(len(posts) + 1)) + PROMPT
        if chance.random() < 0.3:
            own = f"{newest}\n{own}"
        join = "\n" if "\n" not in style and chance.random() < 0.8 else "\n\n"
        posts = [own, *reversed(posts)] if chance.random() < 0.12 else [*posts, own]
        text = join.join(posts) if chance.random() < 0.75 else join.join(posts[:-1]) + "\n\n" + posts[-1]
        if chance.random() < 0.2:
            text += self._one(
                ["\n\n------------------------------\nEnd of {w} {n}", "\n--- end ---", "\n{N} {w}:", "\n({n})"]
            )
        return self._between(text, 0.6, 0.4)

    def record(self) -> str:
        """A record of JSON or YAML with the prompt in a field."""
        chance = self._chance
        drawn, key = chance.random(), chance.choice(self._texts["keys"])
        if drawn < 0.2:
            turns = [
                {"role": role, "content": self._one(["{Q}", "{s}", "{s} {s}"])}
                for _ in range(chance.choice([1, 2, 3]))
                for role in ("user", "assistant")
            ]
            record: Any = [*turns, {"role": "user", "content": "@@prompt:json@@"}]
            if chance.random() < 0.5:
                record = {**self._fields(1), "messages": record}
        else:
            record = self._fields(3)
            place = record
            while (inner := [value for value in place.values() if isinstance(value, dict)]) and chance.random() < 0.7:
                place = chance.choice(inner)
            items = [*place.items()]
            if chance.random() < 0.4:  # what the prompt answers has a field of its own
                said = self._one(["{Q}", "{s}", "{s} {Q}"])
                older: Any = said if chance.random() < 0.4 else {**self._fields(0), key: said}
                items.insert(chance.randint(0, len(items)), (self._one(self._texts["older"]), older))
            items.insert(chance.randint(0, len(items)), (key, "@@prompt:json@@"))
            place.clear()
            place.update(items)
        if drawn > 0.85:
            text = "\n".join(_as_yaml(record)).replace("@@prompt:json@@", "@@prompt:indent@@")
        else:
            text = json.dumps(record, ensure_ascii=False, indent=chance.choice([None, 2, 2, 4]))
        if chance.random() < 0.25:
            text = f"```{chance.choice(['json', '', 'yaml'])}\n{text}\n```"
        if chance.random() < 0.4:
            direction = self._one(self._texts["directions"]).replace("##", "messages" if drawn < 0.2 else key)
            return f"{direction}\n\n{text}" if chance.random() < 0.5 else f"{text}\n\n{direction}"
        return self._between(text, 0.3, 0.3)

    def beside(self) -> str:
        """Records, and below or above them the prompt."""
        chance = self._chance
        text = "\n\n".join(self._titled_record() for _ in range(chance.choice([1, 1, 1, 2, 3])))
        gap = chance.choice(["\n\n", "\n\n", "\n"])
        if chance.random() < 0.25:
            return f"{PROMPT}{gap}{text}"
        lead = self._one(["", "", "", "{T}:\n", "{U}\n", "{R}: ", "{N}: ", "[{T}]\n"])
        return self._between(f"{text}{gap}{lead}{PROMPT}", 0.2, 0.2)

    def _titled_record(self) -> str:
        chance = self._chance
        texts = ["{Q}", "{Q}", "{s}", "{s} {Q}"]
        count = chance.choice([1, 2, 3, 4, 6])
        if chance.random() < 0.4:
            key = self._one(self._texts["keys"])
            record: Any = [
                {**self._fields(0), "role": self._one(["{R}", "user", "assistant"]), key: self._one(texts)}
                for _ in range(count)
            ]
        else:
            record = [self._fields(1, spoken=0.5) for _ in range(count)] if count > 1 else self._fields(2, spoken=0.5)
        text = (
            "\n".join(_as_yaml(record))
            if chance.random() < 0.25
            else json.dumps(record, ensure_ascii=False, indent=chance.choice([None, 2, 2, 2, 4]))
        )
        if chance.random() < 0.3:
            text = f"```{chance.choice(['json', '', 'yaml'])}\n{text}\n```"
        if chance.random() < 0.6:
            text = f"{self._one(self._texts['titles'])}\n{text}"
        if chance.random() < 0.3:
            text += f"\n{self._one(['END OF {U}', '(end of {w})', '---'])}"
        return text

    def _fields(self, depth: int, spoken: float = 0) -> dict[str, Any]:
        """``spoken``: so many are named as fields of what persons say."""
        chance = self._chance
        fields: dict[str, Any] = {}
        for _ in range(chance.choice([1, 2, 3, 4, 6])):
            name, drawn = self._one(["{w}", "{w}_{w}", "{w}_id", "{w}"]), chance.random()
            if chance.random() < spoken:
                name = self._one(self._texts["keys"])
            if drawn < 0.2 and depth:
                fields[name] = self._fields(depth - 1, spoken)
            elif drawn < 0.4:
                fields[name] = self._one(["{Q}", "{Q}", "{s}"])
            elif drawn < 0.47:
                fields[name] = [self._one(["{w}", "{Q}"]) for _ in range(chance.choice([0, 1, 3]))]
            else:
                fields[name] = chance.choice(
                    [True, None, chance.randint(0, 9999), *(self._fill(each) for each in _VALUES)]
                )
        return fields

    def tagged(self) -> str:
        """The prompt between blocks in tags, often without blank lines."""
        chance = self._chance
        gap = chance.choice(["\n", "\n", "\n\n"])
        before = [self._element() for _ in range(chance.choice([0, 1, 1, 2, 3]))]
        behind = [self._element() for _ in range(chance.choice([0, 1, 1, 2]) or not before)]
        return gap.join([*before, PROMPT, *behind])

    def _element(self) -> str:
        chance = self._chance
        name, value = (
            self._one(["{w}", "{w}_{w}", "{w}-{w}", "{w}_context", "{w}_state"]),
            self._one(["", "", ' {w}="{w}"', ' {w}="{n}" {w}="{w}"']),
        )
        drawn = chance.random()
        if drawn < 0.3:
            text = " ".join(self._one(["{s}", "{Q}", "The {w} changed {w}.", "{W} the {w} first."]) for _ in range(2))
            return f"<{name}{value}>{text}</{name}>"
        if drawn < 0.5:
            text = json.dumps([self._fields(0, spoken=0.4) for _ in range(chance.choice([1, 2, 3]))])
        elif drawn < 0.65:
            text = "\n".join(self._element() for _ in range(chance.choice([1, 2])))
        else:
            text = self._block(chance.choice(["before", "behind"]))
        return f"<{name}{value}>\n{text}\n</{name}>"

    def attached(self) -> str:
        """The prompt, and below it what a sentence announces."""
        chance = self._chance
        announcement = self._one(self._texts["attachments"])
        kind = chance.choice(["log", "log", "fence", "fence", "block"])
        if kind == "log":
            style = chance.choice(self._texts["logs"])
            text = "\n".join(self._fill(style) for _ in range(chance.choice([2, 3, 5, 8, 14])))
        elif kind == "fence":
            fence, name = (
                chance.choice(["```", "```", "````", "~~~"]),
                self._one(["", "{w}", "{w} {w}/{w}.{w}", "{w}.py"]),
            )
            inner = "\n".join(self._block(chance.choice(["before", "behind"])) for _ in range(chance.choice([1, 2])))
            text = "\n\n".join(f"{fence}{name}\n{inner}\n{fence}" for _ in range(chance.choice([1, 1, 2, 3])))
        else:
            text = "\n\n".join(self._block("behind") for _ in range(chance.choice([1, 2, 3])))
        gap = chance.choice(["\n\n", "\n\n", "\n"])
        if chance.random() < 0.15:
            return f"{announcement}{gap}{text}\n\n{PROMPT}"
        return f"{PROMPT}\n\n{announcement}{gap}{text}"

    def _between(self, text: str, before: float, behind: float) -> str:
        head = f"{self._block('before')}\n\n" if self._chance.random() < before else ""
        return head + text + (f"\n\n{self._block('behind')}" if self._chance.random() < behind else "")

    def _one(self, choices: Sequence[str]) -> str:
        return self._fill(self._chance.choice(choices))


_VALUES = ("{w}", "{w} {w}", "{N}", "{d}", "{t}", "{w}-{n}", "{W}")


def _as_yaml(record: Any, indent: str = "") -> list[str]:
    lines = []
    pairs = record.items() if isinstance(record, dict) else (("-", each) for each in record)
    for name, value in pairs:
        name = name if name == "-" else f"{name}:"
        if isinstance(value, (dict, list)) and value:
            lines += [f"{indent}{name}", *_as_yaml(value, f"{indent}  ")]
        elif value == "@@prompt:json@@":
            lines += [f"{indent}{name} |", f"{indent}  {value}"]
        else:
            lines.append(
                f"{indent}{name} {json.dumps(value, ensure_ascii=False) if str(value).count(' ') > 1 else value}"
            )
    return lines
