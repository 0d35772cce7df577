"""Who may be given whose answers.

By default nobody is given another's: the scope is the caller. Identity headers count only where the configuration says
who sets them; otherwise it is the credential that tells callers apart, and only its HMAC is kept. A header or query
member that nobody knows may be a credential too.
"""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Iterator, Mapping
from hashlib import sha256
from urllib.parse import parse_qsl

from triton_router.config.services import Identity as IdentitySettings
from triton_router.identity import identify
from triton_router.names import INTERNAL_PREFIX, QUERY

# Headers and query members that hold a credential, whatever else a request brings: by name, or by looking like a JWT.
_CREDENTIAL = re.compile(
    r"auth|token|secret|passw|credential|assertion|jwt|signature|subscription-key|(^|[-_])api[-_]?key|(^|[-_])key$|"
    r"access[-_]?key|session[-_]?key",
    re.IGNORECASE,
)
_JWT = re.compile(r"(\S+ )?eyJ[\w-]{8,}\.[\w-]+\.[\w-]*")
# These tell callers apart that bring nothing else.
_SESSIONS = ("cookie", "x-forwarded-client-cert")
# Headers that tell no caller from another: of HTTP, browsers, proxies, tracing and client libraries.
_LISTED = """
    :query accept accept-charset accept-encoding accept-language accept-datetime access-control-request-headers
    access-control-request-method age anthropic-beta anthropic-dangerous-direct-browser-access anthropic-version
    api-version baggage b3 cache-control connection content-encoding content-language content-length content-type
    cdn-loop cf-connecting-ip cf-ew-via cf-ipcountry cf-ray cf-visitor cf-worker correlation-id date dnt expect
    fastly-client-ip forwarded grpc-timeout host http2-settings idempotency-key if-match if-modified-since
    if-none-match if-unmodified-since keep-alive max-forwards openai-beta
    openai-version origin pragma prefer priority proxy-connection range referer request-id save-data te
    traceparent tracestate trailer transfer-encoding true-client-ip uber-trace-id upgrade upgrade-insecure-requests
    user-agent via warning x-app x-amz-cf-id x-amzn-trace-id x-azure-ref x-client-ip x-cloud-trace-context
    x-cluster-client-ip x-correlation-id x-cache x-datadog-origin x-datadog-parent-id x-datadog-sampling-priority
    x-datadog-tags x-datadog-trace-id x-fd-healthprobe x-forwarded x-forwarded-by x-forwarded-for x-forwarded-host
    x-forwarded-port x-forwarded-prefix x-forwarded-proto x-forwarded-scheme x-forwarded-server x-forwarded-ssl
    x-hostname x-http-method-override x-newrelic-id x-newrelic-transaction x-ot-span-context x-original-forwarded-for
    x-original-host x-original-uri x-original-url x-real-ip x-request-id x-request-start x-requested-with x-scheme
    x-session-id x-title http-referer x-trace-id
"""
_HARMLESS = frozenset(_LISTED.split())
_HARMLESS_PREFIXES = (INTERNAL_PREFIX, "x-stainless-", "x-envoy-", "x-b3-", "sec-", "x-ot-")
# These say how a request is to be answered, and by which version of an API.
_SHAPING = re.compile(r"beta|(^|-)(api-)?version$")


def scope_of(
    kind: str,
    settings: IdentitySettings,
    headers: Mapping[str, str],
    secret: bytes,
    *,
    anonymous: bool,
) -> str | None:
    """The scope of a request: equal for requests that may share answers. ``None``: nothing may be cached for it.

    ``kind`` is `user`, `tenant` or `global`. ``headers`` have the request's query under ``names.QUERY``. ``anonymous``
    lets callers share one scope who bring nothing that could be a credential.
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
    credentials = _credentials(settings, headers)
    if credentials:
        return "credential:" + hmac.new(secret, "\n".join(credentials).encode("utf-8", "replace"), sha256).hexdigest()
    return "anonymous" if anonymous else None


def shaping(headers: Mapping[str, str]) -> list[tuple[str, str]]:
    """What shapes an answer besides the body: beta features, versions of the API, and the query."""
    return sorted(
        (name, value)
        for name, value in headers.items()
        if name == QUERY or (_SHAPING.search(name) and not name.startswith(_HARMLESS_PREFIXES))
    )


def private_headers(settings: IdentitySettings, headers: Mapping[str, str]) -> tuple[str, ...]:
    """Headers of a request that say who the caller is: credentials, sessions, identity headers."""
    claims = (settings.user_id_header, settings.user_groups_header, settings.tenant_header)
    named = {*claims, *settings.credential_headers, *_SESSIONS}
    return tuple(name for name, value in headers.items() if name in named or _is_credential(name, value))


def _credentials(settings: IdentitySettings, headers: Mapping[str, str]) -> list[str]:
    """What tells the caller from others, a line each.

    What is known to be a credential, or looks like one, if there is any: next to a key, a cookie may as well be a load
    balancer's, and an unknown header the number of a request. Without one, whatever could be one; where the operator
    names the credentials, cookies and certificates only.
    """
    members = list(_members(settings, headers))
    named = settings.credential_headers
    credentials = [pair for pair in members if pair[0] in named or _is_credential(*pair)]
    others = [pair for pair in members if pair[0] in _SESSIONS] if named else members
    return sorted(f"{name}:{value}" for name, value in credentials or others)


def _members(settings: IdentitySettings, headers: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Headers and members of the query that could be a credential."""
    # Claims that nobody vouches for are none.
    claims = (settings.user_id_header, settings.user_groups_header, settings.tenant_header)
    for name, value in headers.items():
        if value and (name in settings.credential_headers or not (name in claims or _is_harmless(name))):
            yield name, value
    query = headers.get(QUERY)
    for name, value in parse_qsl(query) if query else ():
        if name not in _HARMLESS:
            yield f"?{name}", value


def _is_harmless(name: str) -> bool:
    return name in _HARMLESS or name.startswith(_HARMLESS_PREFIXES)


def _is_credential(name: str, value: str) -> bool:
    return bool(_CREDENTIAL.search(name.lstrip("?")) or _JWT.match(value))
