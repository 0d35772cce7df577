"""`header_mutation`: changes to the request's headers on the way to the backend."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from triton_router.config.schema import HeaderMutationSettings


@dataclass(slots=True)
class HeaderChanges:
    """Headers to set and to remove, in lower case; a later change of one name takes the place of an earlier one."""

    set: dict[str, str] = field(default_factory=dict)
    remove: list[str] = field(default_factory=list)


def change_headers(settings: HeaderMutationSettings, headers: Mapping[str, str], changes: HeaderChanges) -> None:
    """Add what ``settings`` ask for to ``changes``; ``headers`` are those of the request."""
    for header in settings.add:
        name = header.name.lower()
        gone = name in changes.remove
        if gone or (name not in headers and name not in changes.set):
            _set(changes, name, header.value.get_secret_value())
    for header in settings.update:
        _set(changes, header.name.lower(), header.value.get_secret_value())
    for name in map(str.lower, settings.delete):
        changes.set.pop(name, None)
        if name not in changes.remove:
            changes.remove.append(name)


def _set(changes: HeaderChanges, name: str, value: str) -> None:
    changes.set[name] = value
    if name in changes.remove:
        changes.remove.remove(name)
