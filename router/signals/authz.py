"""Role signals: whether the caller has a role. A caller whom nobody vouches for is unknown, and unknown denies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from triton_router.config.plain import at, rules
from triton_router.config.report import Report
from triton_router.config.signals import RoleBinding
from triton_router.identity import identify, is_bound
from triton_router.signals.contract import (
    Evaluation,
    Evaluations,
    Needs,
    Setup,
    SignalInput,
    SignalKind,
    SignalResults,
    certain,
)


class Roles(SignalKind[RoleBinding]):
    """A binding is known under its own name, and under its role's."""

    SETTINGS = RoleBinding

    def __init__(self, signals: Sequence[RoleBinding], setup: Setup) -> None:
        super().__init__(signals, setup)
        self.needs = Needs(headers=True)
        self._identity = setup.config.global_.services.authz.identity

    @classmethod
    def check(cls, data: Any, report: Report) -> None:
        authz = at(data, "global", "services", "authz") or {}
        identity = at(authz, "identity") or {}
        if not isinstance(identity, dict) or identity.get("set_by", "nobody") != "nobody":
            return
        paths = [path for path, rule in rules(data) if rule.get("type") == RoleBinding.TYPE]
        if paths and at(authz, "fail_open") is not True:
            message = "this rule needs identity headers, so every request is refused: set "
            message += "`global.services.authz.identity.set_by` to the filter that sets them, or remove the rule"
            report.warning(paths[0], message)

    def evaluate(self, query: SignalInput, results: SignalResults) -> Evaluations:
        caller = identify(self._identity, query.headers)
        if caller is None:
            return {}
        evaluations: dict[tuple[str, str], Evaluation] = {}
        for binding in self.signals:
            evaluation = certain(is_bound(caller, binding))
            evaluations[binding.TYPE, binding.name] = evaluation
            # Several bindings may give one role; any of them is enough.
            role = binding.TYPE, binding.role
            if role not in evaluations or evaluation.matched:
                evaluations[role] = evaluation
        return evaluations
