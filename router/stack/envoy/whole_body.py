"""The whole body of a request before anything else, where its length is not known before.

Envoy closes a connection on which a body goes wrong, and does not wait for a processor first: what it responds would be
lost, had the router begun with the request. Waiting costs nothing, for the router decides on whole bodies only. It
costs memory that no budget of the router's knows of, so only so many requests may wait together.
"""

from __future__ import annotations

from triton_router.config.schema import Config
from triton_router.stack.envoy import memory
from triton_router.stack.envoy.values import Json, lua, typed

FILTER = "read-request"
# Envoy knows the length of the others. A header that is set makes it choose the route anew. What waits for a client
# that has gone is never resumed: an object that is collected with it keeps the count.
_WAIT = """
local waiting = 0

local function start_waiting()
  local place, counted = newproxy(true), true
  waiting = waiting + 1
  getmetatable(place).__gc = function()
    if counted then
      counted = false
      waiting = waiting - 1
    end
  end
  return place
end

local function end_waiting(place)
  getmetatable(place).__gc()
end

local function wait_for_body(handle)
  local headers = handle:headers()
  if headers:get("content-length") then
    return
  end
  local bodyless = headers:get(":method") == "GET" and headers:get("transfer-encoding") == nil
  if waiting >= MOST and not bodyless then
    collectgarbage()
    if waiting >= MOST then
      handle:respond({[":status"] = "429", ["retry-after"] = "1"}, "")
    end
  end
  local place = start_waiting()
  local body = handle:body()
  end_waiting(place)
  if body and body:length() > 0 then
    handle:headers():replace("content-length", tostring(body:length()))
  end
end
"""
_WAIT_ONLY = """
function envoy_on_request(handle)
  wait_for_body(handle)
end
"""
# Settings of routes that need no body.
UNREAD: Json = {FILTER: typed("filters.http.lua.v3.LuaPerRoute", disabled=True)}


def waiting(config: Config, then: str = _WAIT_ONLY) -> Json:
    """A filter that waits for the body of each request. ``then`` has its `envoy_on_request`, which calls the wait."""
    return lua(FILTER, _WAIT.replace("MOST", str(memory.most_undeclared_bodies(config))) + then)
