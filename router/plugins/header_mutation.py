"""`header_mutation`: changes to the request's headers on the way to the backend."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from triton_router.config.plain import at, items
from triton_router.config.plugins import HeaderMutationPlugin, HeaderMutationSettings
from triton_router.names import INTERNAL_HEADERS, INTERNAL_PREFIX, REQUEST_ID
from triton_router.plugins.contract import HeaderChanges, PluginInput, PluginKind

if TYPE_CHECKING:
    from triton_router.config.document import Path
    from triton_router.config.report import Report

_RESERVED = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "te", "upgrade", REQUEST_ID, *INTERNAL_HEADERS}
)
_RESERVED_PREFIXES = (INTERNAL_PREFIX, "x-envoy-", ":")


class HeaderMutation(PluginKind):
    SETTINGS = HeaderMutationPlugin

    @classmethod
    def check(cls, plugin: dict[str, Any], path: Path, data: Any, report: Report) -> None:
        headers = (each for key in ("add", "update") for each in items(plugin, ("configuration", key), below=path))
        named: list[tuple[Path, Any]] = [((*where, "name"), header.get("name")) for where, header in headers]
        deleted = at(plugin, "configuration", "delete")
        for index, name in enumerate(deleted if isinstance(deleted, list) else []):
            named.append(((*path, "configuration", "delete", index), name))
        for where, name in named:
            if _is_reserved(str(name).lower()):
                message = f"`{name}` belongs to the gateway; a plugin cannot change it"
                # Files of vLLM Semantic Router may say something in a header of that prefix.
                tell = report.warning if _is_ours(str(name).lower()) else report.error
                tell(where, message)

    @classmethod
    def apply(cls, settings: HeaderMutationSettings, target: PluginInput) -> None:
        changes = target.changes
        for header in settings.add:
            name = header.name.lower()
            absent = name in changes.remove
            if absent or (name not in target.headers and name not in changes.set):
                _set(changes, name, header.value.get_secret_value())
        for header in settings.update:
            _set(changes, header.name.lower(), header.value.get_secret_value())
        for name in map(str.lower, settings.delete):
            if _is_reserved(name):
                continue
            changes.set.pop(name, None)
            if name not in changes.remove:
                changes.remove.append(name)


def _is_reserved(name: str) -> bool:
    return name in _RESERVED or name.startswith(_RESERVED_PREFIXES)


def _is_ours(name: str) -> bool:
    return name.startswith(INTERNAL_PREFIX)


def _set(changes: HeaderChanges, name: str, value: str) -> None:
    if _is_reserved(name):
        return
    changes.set[name] = value
    if name in changes.remove:
        changes.remove.remove(name)
