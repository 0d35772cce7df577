"""One ext_proc message for a request: Envoy's part of it.

The router gets headers and body together, and its decision is applied by Envoy. Two filters in Lua do what Envoy has no
other words for: read all headers, whatever their names, and set headers whose names are not known before. A request
without a body has no such message, nor has one with a large body: the router gets its headers first.
"""

from __future__ import annotations

from triton_router.config.schema import Config
from triton_router.config.services import EnvoySettings
from triton_router.extproc.budget import LARGE
from triton_router.extproc.messages import HEADERS_ATTRIBUTE, METADATA
from triton_router.stack.envoy.values import Json, extension, lua
from triton_router.stack.envoy.whole_body import waiting

# What an attribute holds must be UTF-8, and a header may be anything: each byte becomes the character of its number.
_READ_REQUEST = rf"""
local function as_utf8(character)
  local byte = character:byte()
  return string.char(192 + math.floor(byte / 64), 128 + byte % 64)
end

function envoy_on_request(handle)
  wait_for_body(handle)
  local lines, count = {{""}}, 0
  for name, value in pairs(handle:headers()) do
    count = count + 1
    lines[2 * count], lines[2 * count + 1] = name, value
  end
  lines[1] = tostring(count)
  local text = table.concat(lines, "\n")
  if text:find("[\128-\255]") then
    text = text:gsub("[\128-\255]", as_utf8)
  end
  handle:streamInfo():dynamicMetadata():set("{METADATA}", "headers", text)
end
"""
# A header that is set makes Envoy choose the route anew.
_APPLY_DECISION = rf"""
local function set_all(headers, lines)
  for name, value in lines:gmatch("([^\n]*)\n([^\n]*)\n") do
    headers:replace(name, value)
  end
end

function envoy_on_request(handle)
  local decision = handle:streamInfo():dynamicMetadata():get("{METADATA}")
  if decision and decision.request then
    local headers = handle:headers()
    for name in decision.remove:gmatch("([^\n]*)\n") do
      headers:remove(name)
    end
    set_all(headers, decision.request)
  end
end

function envoy_on_response(handle)
  local decision = handle:streamInfo():dynamicMetadata():get("{METADATA}")
  if decision and decision.response then
    set_all(handle:headers(), decision.response)
  end
end
"""
MODE = {
    "request_header_mode": "SKIP",
    "request_body_mode": "BUFFERED",
    # The router ends its stream where nobody reads the response, and Envoy sends no more then.
    "response_header_mode": "SEND",
}
# Of bodies that come so. The headers of larger ones come first: there are those for which the router has no room.
LENGTH = f"0*[1-9][0-9]{{0,{len(str(LARGE)) - 2}}}"


def possible(settings: EnvoySettings) -> bool:
    """Whether requests can come in one message: their bodies do."""
    return settings.request_body_mode == "BUFFERED" and settings.response_body_mode == "NONE"


def around(ext_proc: Json, config: Config) -> list[Json]:
    """The filter ``ext_proc`` and those that it needs."""
    largest = config.global_.router.max_body_bytes
    # Without it the headers would go on to the next filter before the body has been decided on.
    hold = extension("envoy.filters.http.buffer", "filters.http.buffer.v3.Buffer", max_request_bytes=largest)
    return [waiting(config, _READ_REQUEST), ext_proc, hold, lua("apply-decision", _APPLY_DECISION)]


def attributes() -> Json:
    """What the filter sends with the message."""
    return {"request_attributes": [HEADERS_ATTRIBUTE]}
