"""What stays closed while Envoy forwards requests without the router: models and adapters that clients may not name."""

from __future__ import annotations

from triton_router.config.schema import Config
from triton_router.stack.envoy.values import Json, extension, typed

_RBAC = "envoy.filters.http.rbac"
_NAMESPACE, _KEY = "request", "model"


def model_reader() -> Json:
    """The filter that notes which model a body names. What Envoy cannot read as JSON names none to a backend either."""
    on_present = {"metadata_namespace": _NAMESPACE, "key": _KEY}
    return extension(
        "envoy.filters.http.json_to_metadata",
        "filters.http.json_to_metadata.v3.JsonToMetadata",
        request_rules={
            "rules": [{"selectors": [{"key": "model"}], "on_present": on_present}],
            # A client chooses its content type; a backend may read JSON whatever it says.
            "allow_content_types_regex": {"regex": ".*"},
            "allow_empty_content_type": True,
        },
    )


def access_filter() -> Json:
    """The filter that refuses what :func:`without_hidden_models` says of a route."""
    return extension(_RBAC, "filters.http.rbac.v3.RBAC")


def without_hidden_models(config: Config) -> Json:
    """Settings of a route that refuses (403) the models and adapters that ``config`` hides."""
    matchers = [
        {"metadata": {"filter": _NAMESPACE, "path": [{"key": _KEY}], "value": {"string_match": {"exact": name}}}}
        for name in _hidden_names(config)
    ]
    if not matchers:
        return {}
    policy = {"permissions": [{"or_rules": {"rules": matchers}}], "principals": [{"any": True}]}
    rules = {"action": "DENY", "policies": {"hidden": policy}}
    return {_RBAC: typed("filters.http.rbac.v3.RBACPerRoute", rbac={"rules": rules})}


def _hidden_names(config: Config) -> list[str]:
    hidden = {model.name for model in config.providers.models if model.hidden}
    adapters = {
        lora.name for card in config.routing.modelCards for lora in card.loras if lora.hidden or card.name in hidden
    }
    return sorted(hidden | adapters)
