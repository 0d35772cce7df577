"""The whole body of a request before anything else.

Envoy closes a connection on which a body goes wrong, and does not wait for a processor first: what it responds would be
lost, had the router begun with the request. Waiting costs nothing, for the router decides on whole bodies only.
"""

from __future__ import annotations

from triton_router.stack.envoy.values import Json, lua, typed

FILTER = "read-request"
# Envoy knows the length of the others. A header that is set makes it choose the route anew.
WAIT = """
local function wait_for_body(handle)
  if not handle:headers():get("content-length") then
    local body = handle:body()
    if body and body:length() > 0 then
      handle:headers():replace("content-length", tostring(body:length()))
    end
  end
end
"""
_WAIT_ONLY = f"""{WAIT}
function envoy_on_request(handle)
  wait_for_body(handle)
end
"""
# Settings of routes that need no body.
UNREAD: Json = {FILTER: typed("filters.http.lua.v3.LuaPerRoute", disabled=True)}


def waiting() -> Json:
    """A filter that waits for the body of each request."""
    return lua(FILTER, _WAIT_ONLY)
