"""Role signals: whether the caller has a role. A caller whom nobody vouches for is unknown, and unknown denies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from triton_router.config.services import Identity as IdentitySettings
from triton_router.config.signals import RoleBinding
from triton_router.identity import Identity, identify
from triton_router.signals import UNKNOWN, Evaluation, certain

TYPE = "authz"


class Roles:
    """Evaluates role bindings. Each is found under its own name, and under its role's."""

    def __init__(self, bindings: Iterable[RoleBinding], settings: IdentitySettings) -> None:
        self._bindings = tuple(bindings)
        self._settings = settings

    @property
    def needed(self) -> bool:
        return bool(self._bindings)

    def evaluate(self, headers: Mapping[str, str]) -> dict[tuple[str, str], Evaluation]:
        if not self._bindings:
            return {}
        caller = identify(self._settings, headers)
        found: dict[tuple[str, str], Evaluation] = {}
        for binding in self._bindings:
            evaluation = UNKNOWN if caller is None else certain(_has(caller, binding))
            found[TYPE, binding.name] = evaluation
            # Several bindings may give one role; any of them is enough.
            if (TYPE, binding.role) not in found or evaluation.matched:
                found[TYPE, binding.role] = evaluation
        return found


def _has(caller: Identity, binding: RoleBinding) -> bool:
    return any(
        subject.name == caller.user if subject.kind == "User" else subject.name in caller.groups
        for subject in binding.subjects
    )
