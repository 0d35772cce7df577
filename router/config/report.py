"""The problems of a configuration, each with its line, its path and the nearest valid name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from triton_router.config.document import Document, Path

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake (``error``) or remark (``warning``)."""

    severity: Severity
    file: str
    line: int
    path: str
    message: str
    suggestion: str | None = None

    def __str__(self) -> str:
        hint = f"; did you mean `{self.suggestion}`?" if self.suggestion else ""
        where = f"{self.path}: " if self.path else ""
        return f"{self.file}:{self.line}: {self.severity}: {where}{self.message}{hint}"


class ConfigError(Exception):
    """The configuration cannot be used. ``problems`` holds every error and warning; ``str()`` is the whole report.

    ``coverage`` says how much of the file would act.
    """

    def __init__(self, problems: list[Problem], coverage: Coverage | None = None) -> None:
        self.problems, self.coverage = problems, coverage
        super().__init__("\n".join(map(str, problems)))


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of a file acts, in keys: ``inert`` ones by the name of what this version does not have."""

    active: int
    inert: Mapping[str, int]
    refused: int

    def __str__(self) -> str:
        total = self.active + sum(self.inert.values()) + self.refused
        most_first = sorted(self.inert.items(), key=lambda each: (-each[1], each[0]))
        names = ", ".join(f"{name} {count}" for name, count in most_first)
        inert = f"{sum(self.inert.values())} do nothing here ({names})" if self.inert else "0 do nothing here"
        return f"{self.active} of {total} keys act, {inert}, {self.refused} are refused"


class Report:
    """Collects the problems of one file. Callers give the canonical path, and the report looks up the line.

    ``allowed`` names the protections that may do nothing. ``inactive`` holds what does nothing: names by place.
    """

    def __init__(self, file: str, document: Document, allowed: Collection[str] = ()) -> None:
        self._file, self._document = file, document
        self._problems = [Problem("error", file, flaw.line, dotted(flaw.path), flaw.message) for flaw in document.flaws]
        self.written: Callable[[Path], Path] = lambda path: path
        """Maps a canonical path to the user's own."""
        self.allowed = set(allowed)
        self.inactive: dict[Path, str] = {}

    def error(self, path: Path, message: str, suggestion: str | None = None) -> None:
        self._add("error", path, message, suggestion)

    def warning(self, path: Path, message: str, suggestion: str | None = None) -> None:
        self._add("warning", path, message, suggestion)

    def must_exist(self, path: Path, kind: str, name: Any, candidates: Collection[str]) -> None:
        """Report a ``name`` (at ``path``, of a ``kind``) that is a text and not among ``candidates``."""
        if isinstance(name, str) and name not in candidates:
            self.error(path, f"no {kind} named `{name}`", nearest(name, candidates))

    def does_nothing(self, path: Path, name: str, message: str, *, protects: bool) -> None:
        """Report that ``name`` (a kind of signal or plugin, or a key) has no effect; see :attr:`allowed`."""
        if path[-1] == "type":
            # A rule or a plugin: the whole of it does nothing.
            self.inactive[self.written(path[:-1])] = name
        else:
            self.inactive[self.written(path)] = ".".join([step for step in path if isinstance(step, str)][-2:])
        if protects and name not in self.allowed:
            message += "; it is a protection, so the file is refused: remove it, or allow it by name with "
            message += f"`--allow-inactive {name}` or `global.router.allow_inactive`"
            self.error(path, message)
        else:
            self.warning(path, message)

    def forget_flaws(self, path: Path) -> None:
        """Nothing reads what stands at ``path``: a variable that is not set there is nobody's mistake."""
        below = dotted(self.written(path))
        unread = {dotted(flaw.path) for flaw in self._document.flaws if flaw.unset}
        unread = {each for each in unread if each == below or each.startswith((f"{below}.", f"{below}["))}
        self._problems = [problem for problem in self._problems if problem.path not in unread]

    def coverage(self) -> Coverage | None:
        """How much of the file acts, as far as it has been looked at; ``None`` where all that is known acts."""
        if not self.inactive:
            return None
        refused = {problem.path for problem in self._problems if problem.severity == "error" and problem.path}
        inert: Counter[str] = Counter()
        counts = Counter[bool]()
        for path in self._document.lines:
            if not path or not isinstance(path[-1], str):
                continue
            above = [path[:end] for end in range(1, len(path) + 1)]
            name = next((self.inactive[each] for each in above if each in self.inactive), None)
            if name is not None:
                inert[name] += 1
            else:
                counts[bool(refused) and any(dotted(each) in refused for each in above)] += 1
        return Coverage(counts[False], inert, counts[True])

    @property
    def problems(self) -> list[Problem]:
        """Unique problems, by line: one setting of the flat form may have several canonical paths."""
        return sorted(set(self._problems), key=lambda problem: (problem.line, problem.path, problem.message))

    def _add(self, severity: Severity, path: Path, message: str, suggestion: str | None) -> None:
        path = self.written(path)
        line = self._document.line_of(path)
        self._problems.append(Problem(severity, self._file, line, dotted(path), message, suggestion))


def nearest(name: str, candidates: Iterable[str]) -> str | None:
    """The name in ``candidates`` that is most similar to ``name``, if any."""
    # Here: a configuration without mistakes does without it. Thousands of names are compared in milliseconds.
    from rapidfuzz import fuzz, process

    folded = _folded(tuple(candidates))
    match = process.extractOne(name.lower(), folded.keys(), scorer=fuzz.ratio, score_cutoff=60)
    return folded[match[0]] if match else None


@lru_cache(maxsize=16)
def _folded(candidates: tuple[str, ...]) -> dict[str, str]:
    """Names by their lower case: a file with one mistake often has more about the same names."""
    return {candidate.lower(): candidate for candidate in candidates}


def dotted(path: Path) -> str:
    """``path`` in dotted form: ``routing.decisions[0].name``."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")
