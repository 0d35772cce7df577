"""A request's body and headers on the way to the selected model."""

from __future__ import annotations

from collections.abc import Mapping

from triton_router import names, plugins
from triton_router.body import Undo
from triton_router.completion import Completion
from triton_router.decisions import Choice
from triton_router.dialects import ModelRequest
from triton_router.plugins import HeaderChanges
from triton_router.selection import Selection, apply_reasoning


def rewrite(
    payload: ModelRequest,
    headers: Mapping[str, str],
    choice: Choice,
    selection: Selection,
    members: dict[str, Undo] | None = None,
) -> HeaderChanges | Completion:
    """Let the decision's plugins and the selection change ``payload``; a plugin may answer it instead.

    ``members`` gets what takes back the changes of the selection; those of the plugins stay.
    """
    plugged = choice.decision.plugins if choice.decision else ()
    changes = plugins.apply(plugged, payload, headers, selection.model)
    if not isinstance(changes, Completion):
        address(payload, selection, members)
    return changes


def address(payload: ModelRequest, selection: Selection, members: dict[str, Undo] | None = None) -> None:
    """Make ``payload`` a request to the selected model, with that model's own persona.

    ``members`` gets what takes the changes back; not that of `model`, which every candidate sets.
    """
    edits = payload.edits() if members is not None else {}
    if selection.persona is not None:
        payload.tell(selection.persona.system_prompt, selection.persona.mode)
    apply_reasoning(payload, selection)
    if members is not None:
        members |= payload.undo_since(edits)
    payload.set("model", selection.upstream)


def read(dialect: type[ModelRequest], body: bytes) -> ModelRequest:
    """``body`` with its turns, which signals read."""
    request = dialect.parse(body)
    request.turns()
    return request


def encoded(request: ModelRequest, count: bool, *, release: bool) -> tuple[bool, bytes]:
    """Whether the client is not to see the count of tokens, and the body for the selected model.

    ``count`` has the backend count a stream's tokens; ``release`` frees what was parsed here and now: half a million
    values take a while.
    """
    conceal = count and request.request_usage()
    body = request.encode()
    if release:
        request.release()
    return conceal, body


def routing_headers(selection: Selection, *, readable: bool) -> dict[str, str]:
    """``readable``: the router reads the response, so it must not be compressed."""
    headers = {names.SELECTED_MODEL: selection.model, names.BASE_MODEL: selection.base}
    return headers | {"accept-encoding": "identity"} if readable else headers
