"""The settings classes of all kinds of signals and plugins, including those of other packages.

Defining a settings class registers it. A package brings its own through the entry point groups below: they are imported
before the schema is built, and may import nothing of `triton_router` at their top but contracts and this package's
`section` and `kinds`.
"""

from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points
from typing import Any, ClassVar, get_args

from pydantic import Field

from triton_router.config.section import Name, Section

SIGNAL_GROUP = "triton_router.signals"
PLUGIN_GROUP = "triton_router.plugins"

Key = tuple[str, str]
"""A signal as a rule names it: its type and its name."""


class SignalSettings(Section):
    """One declared signal. Its kind is ``TYPE`` in rules, ``LIST`` under `routing.signals`, and ``PURPOSE`` in docs.

    ``COMPETE``: all declared signals take part, also those that no rule names. ``MODULE``: the keys above settings of
    the whole kind, where it has any. ``EXPLAINED`` kinds are evaluated, for whoever asks for everything, also where no
    rule names one of their signals.
    """

    TYPE: ClassVar[str] = ""
    LIST: ClassVar[str] = ""
    PURPOSE: ClassVar[str] = ""
    COMPETE: ClassVar[bool] = False
    MODULE: ClassVar[tuple[str, ...]] = ()
    EXPLAINED: ClassVar[bool] = False

    name: Name = Field(description="Name that rules refer to.")
    description: str | None = Field(None, description="Documentation only.")

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        if "TYPE" in cls.__dict__:
            if other := next(
                (each for each in SIGNALS.values() if each.LIST == cls.LIST or each.TYPE == cls.TYPE), None
            ):
                raise ValueError(f"{other.__name__} is the settings class of signals of type `{other.TYPE}` already")
            SIGNALS[cls.TYPE] = cls

    @classmethod
    def rule_names(cls, entry: Mapping[str, Any]) -> tuple[str, ...]:
        """The names that rules may use for the signal ``entry``, whose shape is not checked yet."""
        return (entry["name"],) if isinstance(entry.get("name"), str) else ()

    @classmethod
    def reads(cls, entry: Mapping[str, Any]) -> tuple[Key, ...]:
        """The other signals that the signal ``entry`` reads."""
        return ()

    @property
    def keys(self) -> tuple[Key, ...]:
        """Type and name by which rules may mean this signal."""
        return tuple((self.TYPE, name) for name in self.rule_names(self.__dict__))

    @property
    def made_of(self) -> tuple[Key, ...]:
        """The other signals that this one reads."""
        return self.reads(self.model_dump(by_alias=True))


class PluginSettings(Section):
    """One plugin of a decision: ``type`` is a literal, ``configuration`` a section of its own with `enabled`.

    ``GUARDS_RESPONSES``: no client may get a response that the router has not read.
    """

    GUARDS_RESPONSES: ClassVar[bool] = False

    type: Any
    configuration: Any

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        PLUGINS.append(cls)

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """The names of the plugin's type; the first is the canonical one."""
        return get_args(cls.model_fields["type"].annotation)


SIGNALS: dict[str, type[SignalSettings]] = {}
PLUGINS: list[type[PluginSettings]] = []
BROKEN: dict[str, str] = {}
"""Entry points that could not be loaded, each with the reason."""


# One look at what is installed: each reads a file of every distribution.
_entry_points = cache(entry_points)


@cache
def installed(group: str) -> dict[str, Any]:
    """The objects that other packages registered in ``group``, by entry point. ``BROKEN`` collects the broken ones."""
    loaded: dict[str, Any] = {}
    for entry_point in _entry_points().select(group=group):
        try:
            loaded[entry_point.name] = entry_point.load()
        except Exception as error:  # foreign code: whatever it raises, the others must load
            BROKEN[f"{entry_point.name} ({entry_point.value})"] = f"{type(error).__name__}: {error}"
    return loaded
