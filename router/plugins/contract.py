"""What a kind of plugin is: its settings, and what it does to a request. docs/plugins.md writes one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from triton_router.config.kinds import PluginSettings

if TYPE_CHECKING:
    from triton_router.completion import Completion
    from triton_router.config.document import Path
    from triton_router.config.report import Report
    from triton_router.dialects import ModelRequest


@dataclass(slots=True)
class HeaderChanges:
    """Headers to set and to remove, in lower case; a later change of one name takes the place of an earlier one."""

    set: dict[str, str] = field(default_factory=dict)
    remove: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class PluginInput:
    """What plugins see and change: the ``request`` on its way to ``model``, and ``changes`` to its headers.

    ``headers`` are those of the request, in lower case.
    """

    request: ModelRequest
    headers: Mapping[str, str]
    model: str
    changes: HeaderChanges = field(default_factory=HeaderChanges)


class PluginKind:
    """A kind of plugin; ``SETTINGS`` is the class of one in a decision's list. Without state."""

    SETTINGS: ClassVar[type[PluginSettings]]

    @classmethod
    def check(cls, plugin: dict[str, Any], path: Path, data: Any, report: Report) -> None:
        """Report what is wrong with ``plugin``, plain data at ``path`` of the configuration ``data``."""

    @classmethod
    def apply(cls, settings: Any, target: PluginInput) -> Completion | None:
        """Change the request as ``settings``, the plugin's `configuration`, say. A completion answers it at once."""
        raise NotImplementedError
