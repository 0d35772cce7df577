"""`request_params`: limits on what a client may ask of the model."""

from __future__ import annotations

from triton_router.config.plugins import RequestParamsPlugin, RequestParamsSettings
from triton_router.dialects import ModelRequest
from triton_router.plugins.contract import PluginInput, PluginKind

# How many answers are generated, and of how many the best is sent.
ANSWERS = ("n", "best_of")


class RequestParams(PluginKind):
    SETTINGS = RequestParamsPlugin

    @classmethod
    def apply(cls, settings: RequestParamsSettings, target: PluginInput) -> None:
        _limit(settings, target.request)


def _limit(settings: RequestParamsSettings, request: ModelRequest) -> None:
    """Take out what is blocked, cap what is limited. What the router itself sets comes later and stays."""
    blocked = set(settings.blocked_params)
    if settings.strip_unknown:
        blocked |= request.members.keys() - request.MEMBERS
    for name in blocked - request.NEEDED:
        request.remove(name)
    if settings.max_tokens_limit is not None:
        _cap_tokens(request, settings.max_tokens_limit)
    if settings.max_n is not None:
        for name in ANSWERS:
            if _exceeds(request.get(name), settings.max_n):
                request.set(name, settings.max_n)


def _cap_tokens(request: ModelRequest, limit: int) -> None:
    # A cap that forgets one of them is none.
    named = [name for name in request.TOKEN_LIMITS if request.get(name) is not None]
    for name in named:
        if _exceeds(request.get(name), limit):
            request.set(name, limit)
    if not named:
        # Saying nothing would ask for as much as the model's context holds.
        request.set(request.TOKEN_LIMITS[0], limit)


def _exceeds(value: object, limit: int) -> bool:
    """Whether ``value`` is over ``limit``, below 1 (to some backends that is no limit), or not a number."""
    if value is None:
        return False
    return isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= limit
