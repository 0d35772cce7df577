"""Settings of the plugins, one class a kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Union

from pydantic import Field, SecretStr

from triton_router.config.kinds import PLUGIN_GROUP, PLUGINS, PluginSettings, installed
from triton_router.config.section import CacheScope, HeaderName, Name, Probability, Section


class SystemPromptSettings(Section):
    enabled: bool = Field(True, description="Switch for this decision.")
    mode: Literal["replace", "prepend", "append", "insert", "auto"] = Field(
        "replace",
        description="`replace` removes the client's system messages; `prepend` and `append` add one before or after "
        "them; `insert` puts the text at the start of the first one; `auto` replaces where the client sent none or "
        "one line, and inserts where it sent more, as agents do.",
    )
    system_prompt: str = Field(min_length=1, description="The text.")


class SystemPromptPlugin(PluginSettings):
    type: Literal["system_prompt"]
    configuration: SystemPromptSettings = Field(description="What to say, and how it joins what the client says.")


class SemanticCacheSettings(Section):
    NOT_ACTIVE = frozenset({"request_controls", "personalized", "revision"})

    enabled: bool = Field(True, description="Switch for this decision.")
    mode: Literal["semantic", "exact"] = Field("semantic", description="Alike questions too, or the same one only.")
    similarity_threshold: Probability | None = Field(None, description="Least cosine; overrides the global one.")
    ttl_seconds: float | None = Field(None, gt=0, description="How long answers are kept; overrides the global one.")
    scope: CacheScope | None = Field(None, description="Who shares answers; overrides the global one.")


class SemanticCachePlugin(PluginSettings):
    """Answers that were given before; see docs/cache.md."""

    type: Literal["semantic-cache", "semantic_cache", "response_cache", "response-cache"]
    configuration: SemanticCacheSettings = Field(
        default_factory=SemanticCacheSettings, description="Cache settings of this decision."
    )

    @property
    def by_meaning(self) -> bool:
        """Whether questions that mean the same are looked for."""
        return self.configuration.enabled and self.configuration.mode != "exact"


class Header(Section):
    name: HeaderName = Field(description="Header name; letters are compared without case.")
    value: SecretStr = Field(description="Its value; never shown again.")


class HeaderMutationSettings(Section):
    enabled: bool = Field(True, description="Switch for this decision.")
    add: tuple[Header, ...] = Field((), description="Set where the request has no such header.")
    update: tuple[Header, ...] = Field((), description="Set, whatever the request has.")
    delete: tuple[HeaderName, ...] = Field((), description="Removed.")


class HeaderMutationPlugin(PluginSettings):
    type: Literal["header_mutation"]
    configuration: HeaderMutationSettings = Field(description="Changes to the request's headers, for the backend.")


class FastResponseSettings(Section):
    enabled: bool = Field(True, description="Switch for this decision.")
    message: str = Field(min_length=1, description="The assistant's answer; no backend is asked.")


class FastResponsePlugin(PluginSettings):
    type: Literal["fast_response"]
    configuration: FastResponseSettings = Field(description="What is answered at once, as JSON or as a stream.")


class RequestParamsSettings(Section):
    enabled: bool = Field(True, description="Switch for this decision.")
    blocked_params: tuple[Name, ...] = Field((), description="Members of the request that are taken out.")
    max_tokens_limit: int | None = Field(
        None, ge=1, description="Cap on `max_tokens` and `max_completion_tokens`; set where the client gives neither."
    )
    max_n: int | None = Field(None, ge=1, description="Cap on `n`.")
    strip_unknown: bool = Field(False, description="Take out members that no OpenAI or vLLM chat request has.")


class RequestParamsPlugin(PluginSettings):
    type: Literal["request_params"]
    configuration: RequestParamsSettings = Field(description="Limits on what a client may ask for.")


class ToolsSettings(Section):
    NOT_ACTIVE = frozenset({"semantic_selection", "strip_tool_history", "strategy", "dynamic_retrieval"})

    enabled: bool = Field(True, description="Switch for this decision.")
    mode: Literal["none", "passthrough", "filtered"] = Field(
        "filtered", description="`none` takes all tools away, `passthrough` leaves them, `filtered` applies the lists."
    )
    allow_tools: tuple[Name, ...] | None = Field(None, description="Names (shell patterns) that stay; default all.")
    block_tools: tuple[Name, ...] = Field((), description="Names (shell patterns) that go, allowed or not.")


class ToolsPlugin(PluginSettings):
    type: Literal["tools"]
    configuration: ToolsSettings = Field(description="Which of the client's tools the model gets to see.")


installed(PLUGIN_GROUP)

if TYPE_CHECKING:
    Plugin = PluginSettings
else:
    Plugin = Annotated[Union[tuple(PLUGINS)], Field(discriminator="type")]  # noqa: UP007  # only known at run time
