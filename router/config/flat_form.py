"""The keys of the flat form. Values of type ``Any`` are checked later, in the canonical form."""

import ipaddress
import re
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from triton_router.config.section import Name, Section
from triton_router.config.services import DomainClassifier
from triton_router.config.signals import KeywordSignal


def bracketed(address: str) -> str:
    """A host in the form for ``host:port``: IPv6 in brackets.

    Raises:
        ValueError: ``address`` is neither a host name nor an IP address.
    """
    bare = address[1:-1] if address.startswith("[") and address.endswith("]") else address
    if ":" in bare:
        try:
            return f"[{ipaddress.IPv6Address(bare)}]"
        except ValueError:
            pass
    elif re.fullmatch(r"[A-Za-z0-9._-]+", address):
        return address
    raise ValueError(f"`{address}` is not a host name or an IP address (the port has a key of its own)")


def _is_address(address: str) -> str:
    bracketed(address)
    return address


Effort = Literal["minimal", "low", "medium", "high"]


class Endpoint(Section):
    NOT_ACTIVE = frozenset({"type", "api_key", "provider_profile"})

    name: Name | None = None
    address: Annotated[str, AfterValidator(_is_address)]
    port: int = Field(ge=1, le=65535)
    weight: Any = None
    models: tuple[Name, ...] | None = None
    protocol: Any = None
    health_check_path: Any = None


class Adapter(Section):
    name: Name
    description: Any = None
    hidden: Any = None


class Model(Section):
    NOT_ACTIVE = frozenset(
        {"pii_policy", "access_key", "api_format", "external_model_ids", "param_size", "capabilities",
         "quality_score", "context_window_size", "tags", "modality"}
    )  # fmt: skip

    reasoning_family: Any = None
    reasoning_effort: Effort | None = None
    preferred_endpoints: tuple[Name, ...] | None = None
    loras: tuple[Adapter, ...] | None = None
    description: Any = None
    hidden: Any = None
    pricing: Any = None


class Score(Section):
    NOT_ACTIVE = frozenset({"reasoning_description"})

    model: Name
    lora_name: Any = None
    score: Any = None
    weight: Any = None
    use_reasoning: Any = None
    reasoning_effort: Any = None


class Category(Section):
    NOT_ACTIVE = frozenset(
        {"jailbreak_enabled", "jailbreak_threshold", "pii_enabled", "pii_threshold", "reasoning_description"}
    )

    name: Name
    description: str | None = None
    mmlu_categories: Any = None
    examples: Any = None
    system_prompt: str | None = None
    system_prompt_enabled: bool | None = None
    system_prompt_mode: Literal["replace", "prepend", "append", "insert", "auto"] | None = None
    semantic_cache_enabled: bool | None = None
    semantic_cache_similarity_threshold: float | None = Field(None, ge=0, le=1)
    use_reasoning: bool | None = None
    reasoning_effort: Effort | None = None
    model_scores: tuple[Score, ...] | None = None


class Rule(Section):
    """A rule names its category in ``category``, and may then have its own ``name``, or in ``name``."""

    name: Name | None = None
    category: Name | None = None

    @model_validator(mode="after")
    def _tells_a_category(self) -> Self:
        if self.name is None and self.category is None:
            raise ValueError("a rule needs a `category`")
        return self


class KeywordRule(Rule):
    NOT_ACTIVE = KeywordSignal.NOT_ACTIVE

    operator: Any = None
    keywords: Any = None
    case_sensitive: Any = None
    match: Any = None
    method: Any = None
    fuzzy_match: Any = None
    fuzzy_threshold: Any = None


class EmbeddingRule(Rule):
    NOT_ACTIVE = frozenset({"model", "dimension", "query_modality", "quality_priority", "latency_priority"})
    INSTEAD: ClassVar[dict[str, str]] = {"model": "the signal bundle's embedder is used"}

    threshold: Any = None
    candidates: Any = None
    keywords: Any = None
    aggregation_method: Any = None
    description: Any = None

    @model_validator(mode="after")
    def _says_it_once(self) -> Self:
        if self.candidates is not None and self.keywords is not None:
            raise ValueError("`candidates` and `keywords` are the same setting; write only one of them")
        return self


class CategoryModel(Section):
    NOT_ACTIVE = DomainClassifier.NOT_ACTIVE
    INSTEAD: ClassVar[dict[str, str]] = DomainClassifier.INSTEAD

    model_id: Any = None
    threshold: Any = None
    fallback_category: Any = None
    multi_label: Any = None


class McpModel(Section):
    enabled: bool | None = None
    transport_type: Any = None
    command: Any = None
    args: Any = None
    env: Any = None
    url: Any = None
    http_headers: Any = None
    tool_name: Any = None
    list_tool_name: Any = None
    threshold: Any = None
    timeout_seconds: Any = None
    forward_headers: Any = None
    sessions: Any = None
    max_in_flight: Any = None


class Classifier(Section):
    NOT_ACTIVE = frozenset({"pii_model", "preference_model"})

    category_model: CategoryModel | None = None
    mcp_category_model: McpModel | None = None


class FlatConfig(Section):
    """The keys of the flat form."""

    NOT_ACTIVE = frozenset(
        {"bert_model", "embedding_models", "tools", "response_api",
         "looper", "include_config_models_in_list", "clear_route_cache", "config_source",
         "listeners", "memory", "vector_store", "model_selection", "image_gen_backends",
         "streamed_body_mode", "max_streamed_body_bytes", "streamed_body_timeout_sec", "batch_classification",
         "provider_profiles", "model_targets", "backends", "auth_profiles", "external_models", "gpu_config",
         "max_workers", "skip_processing", "prompt_compression",
         "latency_rules"}
    )  # fmt: skip

    version: Any = None
    classifier: Classifier | None = None
    vllm_endpoints: tuple[Endpoint, ...] | None = None
    models: dict[str, Model | None] | None = Field(None, alias="model_config")
    default_model: Any = None
    default_reasoning_effort: Any = None
    reasoning_families: Any = None
    categories: tuple[Category, ...] | None = None
    keyword_rules: tuple[KeywordRule, ...] | None = None
    embedding_rules: tuple[EmbeddingRule, ...] | None = None
    strategy: Any = None
    auto_model_name: Any = None
    auto_model_names: Any = None
    semantic_cache: Any = None
    api: Any = None
    observability: Any = None
    authz: Any = None
    ratelimit: Any = None
    router_replay: Any = None
    prompt_guard: Any = None
    feedback_detector: Any = None
    modality_detector: Any = None
    hallucination_mitigation: Any = None
    language_rules: list[Any] | None = None
    context_rules: list[Any] | None = None
    structure_rules: list[Any] | None = None
    complexity_rules: list[Any] | None = None
    reask_rules: list[Any] | None = None
    fact_check_rules: list[Any] | None = None
    user_feedback_rules: list[Any] | None = None
    modality_rules: list[Any] | None = None
    preference_rules: list[Any] | None = None
    jailbreak: list[Any] | None = None
    pii: list[Any] | None = None
    role_bindings: list[Any] | None = None
    signals: dict[str, Any] | None = None
    decisions: list[Any] | None = None


# Those that no other form has.
KEYS = ({entry.alias or name for name, entry in FlatConfig.model_fields.items()} | FlatConfig.NOT_ACTIVE) - {"version"}
