"""Who may ask which model, adapter and path, whether the model is named or chosen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from triton_router.config.document import Path
from triton_router.config.plain import CARDS, DECISIONS, MODELS, SIGNALS, at, items, names
from triton_router.config.report import Report, nearest
from triton_router.config.services import AccessRule, Authz
from triton_router.config.signals import RoleBinding
from triton_router.errors import Refusal
from triton_router.identity import identify, is_bound

_RULES = ("global", "services", "authz", "access")


class Access:
    """The access rules of one configuration.

    ``needs_identity``: a caller whom nobody vouches for may ask nothing, because decisions ask for roles.
    """

    def __init__(self, settings: Authz, bindings: Sequence[Any], *, needs_identity: bool) -> None:
        self.rules = settings.access
        self._identity, self._bindings, self._needs_identity = settings.identity, bindings, needs_identity

    def require_caller(self, headers: Mapping[str, str]) -> None:
        """Raises ``Refusal`` (403) for a request of nobody, where callers have to be known."""
        if self._needs_identity and identify(self._identity, headers) is None:
            raise _unknown_caller()

    def require(self, path: str, model: str, base: str, headers: Mapping[str, str]) -> None:
        """Let ``path`` be asked of ``model``, an adapter of ``base`` or ``base`` itself.

        Raises:
            Refusal: 403; a rule covers it, and the caller has none of the rule's roles or is not known.
        """
        for rule in self.rules:
            if _covers(rule, path, (model, base)) and not self._has_role(rule, headers):
                if identify(self._identity, headers) is None:
                    raise _unknown_caller()
                raise Refusal(403, f"You may not use the model `{model}` here.", code="access_denied", param="model")

    def may_see(self, model: str, base: str, headers: Mapping[str, str]) -> bool:
        """Whether ``model`` is listed for the caller: some path may be asked of it."""
        return all(
            rule.paths or not _covers(rule, "", (model, base)) or self._has_role(rule, headers) for rule in self.rules
        )

    def _has_role(self, rule: AccessRule, headers: Mapping[str, str]) -> bool:
        caller = identify(self._identity, headers)
        return caller is not None and any(
            is_bound(caller, binding) for binding in self._bindings if {binding.name, binding.role} & set(rule.roles)
        )


def _covers(rule: AccessRule, path: str, models: tuple[str, ...]) -> bool:
    if rule.paths and path not in rule.paths:
        return False
    return not rule.models or any(fnmatchcase(name, pattern) for name in models for pattern in rule.models)


def _unknown_caller() -> Refusal:
    return Refusal(403, "This service needs to know who is calling.", code="identity_required")


# --- checks --------------------------------------------------------------------------------------------------------


def check(data: Any, report: Report) -> None:
    """Access rules can act; roles that a client could pass by are said."""
    rules = list(items(data, _RULES))
    if rules and at(data, "global", "services", "authz", "identity", "set_by") in (None, "nobody"):
        message = "nobody would pass access rules, because no trusted source sets identity headers: set "
        message += "`global.services.authz.identity.set_by` to the filter that sets them, or remove the rules"
        report.error(_RULES, message)
    for path, rule in rules:
        _check_roles(data, rule, path, report)
        _check_models(data, rule, path, report)
    _check_ways_past(data, [rule for _, rule in rules], report)


def _strings(rule: dict[str, Any], key: str) -> list[tuple[int, str]]:
    listed = rule.get(key)
    return [(index, each) for index, each in enumerate(listed if isinstance(listed, list) else []) if _is_text(each)]


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _check_roles(data: Any, rule: dict[str, Any], path: Path, report: Report) -> None:
    bindings = [binding for _, binding in items(data, (*SIGNALS, RoleBinding.LIST))]
    roles = [name for binding in bindings for name in RoleBinding.rule_names(binding)]
    for index, role in _strings(rule, "roles"):
        if role not in roles:
            message = f"no role named `{role}` in routing.signals.{RoleBinding.LIST}"
            report.error((*path, "roles", index), message, nearest(role, roles))


def _check_models(data: Any, rule: dict[str, Any], path: Path, report: Report) -> None:
    adapters = [name for _, card in items(data, CARDS) for name in names(card, "loras")]
    models = [*names(data, *MODELS), *adapters]
    # Adapters that nobody declares come from backends, or from an MCP server.
    others = at(data, "global", "router", "adapter_discovery", "expose") is True or any(
        at(decision, "hints", "adapters") for _, decision in items(data, DECISIONS)
    )
    for index, pattern in _strings(rule, "models"):
        if not others and not any(fnmatchcase(name, pattern) for name in models):
            message = f"`{pattern}` is no model or adapter, so this rule protects nothing"
            report.error((*path, "models", index), message, nearest(pattern, models))


def _check_ways_past(data: Any, rules: list[dict[str, Any]], report: Report) -> None:
    """Warn of models that only decisions with roles use, and that anybody gets by naming them."""
    guarded: dict[str, Path] = {}
    free = {str(at(data, "providers", "defaults", "default_model") or next(iter(names(data, *MODELS)), None))}
    for path, decision in items(data, DECISIONS):
        for where, ref in items(decision, ("modelRefs",), below=path):
            name = ref.get("lora_name") or ref.get("model")
            if _asks_role(decision.get("rules")) and isinstance(name, str):
                guarded.setdefault(name, where)
            else:
                free.add(str(name))
    hidden = {str(model.get("name")) for _, model in items(data, MODELS) if model.get("hidden") is True}
    hidden |= {str(lora.get("name")) for _, card in items(data, CARDS) for _, lora in items(card, ("loras",))
               if lora.get("hidden") is True}  # fmt: skip
    patterns = [pattern for rule in rules for _, pattern in _strings(rule, "models")]
    every = any(not rule.get("models") for rule in rules)
    for name, path in guarded.items():
        if name in free or name in hidden or every or any(fnmatchcase(name, pattern) for pattern in patterns):
            continue
        message = f"clients who name `{name}` need no role: add a rule for it to `global.services.authz.access`"
        report.warning(path, message)


def _asks_role(rule: Any) -> bool:
    return any(leaf.get("type") == RoleBinding.TYPE for leaf in _leaves(rule))


def _leaves(rule: Any) -> Iterator[dict[str, Any]]:
    if isinstance(rule, dict):
        yield rule
        for _, condition in items(rule, ("conditions",)):
            yield from _leaves(condition)
