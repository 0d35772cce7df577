"""Who may be given whose answers.

By default nobody is given another's: the scope is the caller. Identity headers count only where the configuration says
who sets them; otherwise it is the credential that tells callers apart, and only its HMAC is kept.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Iterable, Mapping
from hashlib import sha256

from triton_router.config.services import Identity as IdentitySettings
from triton_router.identity import identify

CREDENTIALS = (
    "authorization", "x-api-key", "api-key", "x-goog-api-key", "ocp-apim-subscription-key", "proxy-authorization",
)  # fmt: skip
# These tell callers apart that bring none of them. Next to a key, cookies may as well be a load balancer's.
SESSIONS = ("cookie", "x-forwarded-client-cert")


def scope_of(
    kind: str, settings: IdentitySettings, headers: Mapping[str, str], secret: bytes, *, anonymous: bool
) -> str | None:
    """The scope of a request: equal for requests that may share answers. ``None``: nothing may be cached for it.

    ``kind`` is `user`, `tenant` or `global`. ``anonymous`` lets callers without any credential share one scope.
    """
    if kind == "global":
        return "global"
    caller = identify(settings, headers)
    if kind == "tenant":
        # Only a tenant that somebody vouches for; a credential says nothing of tenants.
        return f"tenant:{caller.tenant}" if caller is not None and caller.tenant else None
    if caller is not None:
        # Two tenants may each have an "alice".
        return f"member:{json.dumps([caller.tenant, caller.user])}" if caller.tenant else f"user:{caller.user}"
    credentials = _present(CREDENTIALS, headers) or _present(SESSIONS, headers)
    if credentials:
        return "credential:" + hmac.new(secret, "\n".join(credentials).encode("utf-8", "replace"), sha256).hexdigest()
    return "anonymous" if anonymous else None


def _present(names: Iterable[str], headers: Mapping[str, str]) -> list[str]:
    return [f"{name}:{headers[name]}" for name in names if headers.get(name)]
