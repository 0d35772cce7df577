"""The problems of a configuration, each with its line, its path and the nearest valid name."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

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
    """The configuration cannot be used. ``problems`` holds every error and warning; ``str()`` is the whole report."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("\n".join(map(str, problems)))


class Report:
    """Collects the problems of one file. Callers give the canonical path, and the report looks up the line."""

    def __init__(self, file: str, document: Document) -> None:
        self._file, self._document = file, document
        self._problems = [Problem("error", file, flaw.line, dotted(flaw.path), flaw.message) for flaw in document.flaws]
        self.written: Callable[[Path], Path] = lambda path: path
        """Maps a canonical path to the user's own."""

    def error(self, path: Path, message: str, suggestion: str | None = None) -> None:
        self._add("error", path, message, suggestion)

    def warning(self, path: Path, message: str, suggestion: str | None = None) -> None:
        self._add("warning", path, message, suggestion)

    @property
    def problems(self) -> list[Problem]:
        """Unique problems, by line: one setting of the flat form may have several canonical paths."""
        return sorted(set(self._problems), key=lambda problem: (problem.line, problem.path, problem.message))

    def _add(self, severity: Severity, path: Path, message: str, suggestion: str | None) -> None:
        path = self.written(path)
        line = self._document.line_of(path)
        self._problems.append(Problem(severity, self._file, line, dotted(path), message, suggestion))


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The name in ``known`` that is most similar to ``name``, if any."""
    folded = {candidate.lower(): candidate for candidate in known}
    match = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=0.6)
    return folded[match[0]] if match else None


def dotted(path: Path) -> str:
    """``path`` in dotted form: ``routing.decisions[0].name``."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")
