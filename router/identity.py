"""Who is calling, as far as the configuration allows to believe it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from triton_router.config.services import Identity as IdentitySettings
from triton_router.config.signals import RoleBinding


@dataclass(frozen=True, slots=True)
class Identity:
    user: str
    groups: frozenset[str] = frozenset()
    tenant: str | None = None


def identify(settings: IdentitySettings, headers: Mapping[str, str]) -> Identity | None:
    """The caller, or ``None``: nobody said, or what was said is not to be believed."""
    if settings.set_by == "nobody":
        return None
    user = headers.get(settings.user_id_header, "").strip()
    if not user:
        return None
    groups = (group.strip() for group in headers.get(settings.user_groups_header, "").split(","))
    tenant = headers.get(settings.tenant_header, "").strip() or None
    return Identity(user, frozenset(group for group in groups if group), tenant)


def is_bound(caller: Identity, binding: RoleBinding) -> bool:
    """Whether ``binding`` gives its role to ``caller``."""
    return any(
        subject.name == caller.user if subject.kind == "User" else subject.name in caller.groups
        for subject in binding.subjects
    )


def believed(settings: IdentitySettings, header: str) -> bool:
    """Whether a request header may be taken at its word: identity only from whoever is said to set it."""
    claims = (settings.user_id_header, settings.user_groups_header, settings.tenant_header)
    return settings.set_by != "nobody" or header not in claims
