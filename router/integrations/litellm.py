"""A LiteLLM proxy asks the router which model or adapter a chat request goes to, before the call.

LiteLLM's configuration names the hook: ``litellm_settings: {callbacks: triton_router.integrations.litellm.hook}``. You
can also copy the file next to that configuration, for example as ``triton_router_hook.py``. It needs only LiteLLM's own
packages and the address of the router's REST service.

===================== ========================= ======================================================================
environment           default                   meaning
===================== ========================= ======================================================================
TRITON_ROUTER_URL     http://127.0.0.1:9080     the router's REST service
TRITON_ROUTER_TOKEN                             its bearer token, if it requires one
TRITON_ROUTER_MODELS  auto,MoM                  model names for which the hook asks the router; ``*``: all
TRITON_ROUTER_WITHIN  500                       timeout for the router's response, in milliseconds
TRITON_ROUTER_HEADERS x-session-id,x-request-id request headers that the hook passes to the router
===================== ========================= ======================================================================

If the router is down, slow or wrong, no request fails: it keeps its model.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from fnmatch import fnmatchcase
from queue import SimpleQueue
from threading import Thread
from typing import Any

import aiohttp
from fastapi import HTTPException
from litellm.integrations.custom_logger import CustomLogger

log = logging.getLogger("triton_router")

CHAT_CALLS = frozenset({"completion", "acompletion"})
# Writing this much as JSON takes 1 to 4 ms, in which nothing else in the process goes on; a thread would not help, as
# the encoder does not let go of the interpreter.
MOST_CHARACTERS = 250_000
# After so many failures in a row requests are not kept waiting: for a while nobody asks.
FAILURES, PAUSE = 3, 1.0
LOG_EVERY = 60.0
MOST_LINES = 10_000
# Where the hooks of one request, and LiteLLM's loggers, find what was decided.
KEY = "triton_router"


# Errors after which the request must not go to any model, in the words of the router.
FORBIDDEN = frozenset({"identity_required", "blocked", "protection_unavailable", "masking_unavailable"})


class NoAdvice(Exception):
    """The router could not be asked, or what it said is of no use. ``str()`` is one word for logs and counters."""


class TritonRouter(CustomLogger):  # type: ignore[misc]
    """The hook. ``counts`` says how often it had advice (``routed``), and why it went without.

    ``models`` are the names that are asked about, ``within`` is in seconds, ``headers`` names those of the request
    that the router is shown.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        models: Collection[str] = ("auto", "MoM"),
        within: float = 0.5,
        headers: Iterable[str] = ("x-session-id", "x-request-id"),
    ) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self._url = url.rstrip("/") + "/api/v1/route"
        self._credential = {"authorization": f"Bearer {token}"} if token else {}
        self._models, self._within, self._headers = frozenset(models), within, tuple(headers)
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._failures, self._ask_again, self._log_again = 0, 0.0, 0.0

    @classmethod
    def from_environment(cls) -> TritonRouter:
        """With the settings that stand in the module's description."""
        variable = os.environ.get
        return cls(
            variable("TRITON_ROUTER_URL") or "http://127.0.0.1:9080",
            variable("TRITON_ROUTER_TOKEN"),
            models=_names(variable("TRITON_ROUTER_MODELS", "auto,MoM")),
            within=float(variable("TRITON_ROUTER_WITHIN", "500")) / 1000,
            headers=_names(variable("TRITON_ROUTER_HEADERS", "x-session-id,x-request-id").lower()),
        )

    # LiteLLM only calls a hook that stands in the class itself.
    async def async_pre_call_hook(
        self, user_api_key_dict: Any, cache: Any, data: dict[str, Any], call_type: str
    ) -> dict[str, Any]:
        """Set the model and what else the router changes. Raises ``HTTPException`` where it forbids the request."""
        if call_type not in CHAT_CALLS or not ({"*", data.get("model")} & self._models):
            return data
        started = time.perf_counter()
        try:
            advice = await self._ask(data)
            model = _served_here(advice)
        except NoAdvice as reason:
            self._go_without(str(reason), data)
            return data
        self.counts["routed"] += 1
        _apply(advice, model, data)
        _note(data, {**_about(advice), "model": model})
        log.info("%s in %.1f ms", _line(advice, model), (time.perf_counter() - started) * 1000)
        return data

    async def async_post_call_response_headers_hook(
        self, data: dict[str, Any], user_api_key_dict: Any, response: Any, **_: Any
    ) -> dict[str, str] | None:
        """Headers that say what was decided, as on answers that come by Envoy."""
        noted = (data.get("metadata") or {}).get(KEY)
        if not isinstance(noted, dict):
            return None
        headers = {
            "x-vsr-selected-model": noted.get("model"),
            "x-vsr-selected-decision": noted.get("decision"),
            "x-vsr-selected-confidence": noted.get("confidence"),
            "x-vsr-degraded": ",".join(noted.get("degraded", ())) or None,
        }
        return {name: str(value) for name, value in headers.items() if value is not None}

    # --- asking ----------------------------------------------------------------------------------------------------

    async def _ask(self, data: Mapping[str, Any]) -> dict[str, Any]:
        if time.monotonic() < self._ask_again:
            raise NoAdvice("paused")
        question, headers = _question(data), {"content-type": "application/json", **self._credential}
        client_headers = (data.get("proxy_server_request") or {}).get("headers") or {}
        headers |= {name: str(client_headers[name]) for name in self._headers if name in client_headers}
        try:
            async with asyncio.timeout(self._within):
                status, body = await self._post(question, headers)
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            self._failed()
            raise NoAdvice("timeout" if isinstance(error, TimeoutError) else "unreachable") from error
        if status != 200 and _code(body) in FORBIDDEN:
            raise HTTPException(status, detail=json.loads(body)["error"])
        if status != 200:
            # A refusal of this one request says nothing about the next.
            if status >= 500:
                self._failed()
            raise NoAdvice(f"status_{status}")
        self._failures = 0
        try:
            advice = json.loads(body)
        except ValueError as error:
            raise NoAdvice("malformed") from error
        if not isinstance(advice, dict) or not isinstance(advice.get("model"), str):
            raise NoAdvice("malformed")
        return advice

    async def _post(self, question: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]:
        try:
            return await self._post_once(question, headers)
        except aiohttp.ServerDisconnectedError:
            # The other end closed an idle connection as it was taken up; asking again changes nothing.
            return await self._post_once(question, headers)

    async def _post_once(self, question: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]:
        async with self._connected().post(self._url, data=question, headers=headers) as answer:
            return answer.status, await answer.read()

    def _connected(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        if self._session is None or self._session.closed or self._loop is not loop:
            self._loop = loop
            connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=60, ttl_dns_cache=10)
            self._session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
        return self._session

    # --- going without ---------------------------------------------------------------------------------------------

    def _failed(self) -> None:
        self._failures += 1
        if self._failures >= FAILURES:
            self._ask_again = time.monotonic() + PAUSE

    def _go_without(self, reason: str, data: dict[str, Any]) -> None:
        self.counts[reason] += 1
        _note(data, {"model": data.get("model"), "degraded": {"router": reason}})
        if time.monotonic() >= self._log_again:
            self._log_again = time.monotonic() + LOG_EVERY
            counted = ", ".join(f"{name} {count}" for name, count in sorted(self.counts.items()))
            log.warning("no advice (%s): requests keep their model; so far: %s", reason, counted)


# --- the question --------------------------------------------------------------------------------------------------


def _question(data: Mapping[str, Any]) -> bytes:
    """What the client sent, without pictures, LiteLLM's own members and the model's name."""
    messages = data.get("messages")
    if not isinstance(messages, list):
        raise NoAdvice("no_messages")
    client_body = (data.get("proxy_server_request") or {}).get("body") or {}
    body = {
        name: data[name]
        for name in client_body
        if name in data and name not in ("model", "messages", "metadata", "stream")
    }
    metadata = (data.get("metadata") or {}).get("requester_metadata")
    if isinstance(metadata, dict):
        body["metadata"] = metadata
    body["messages"] = [_without_pictures(message) for message in messages]
    if sum(_characters(message) for message in body["messages"]) > MOST_CHARACTERS:
        raise NoAdvice("too_large")
    try:
        return json.dumps(body, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise NoAdvice("unwritable") from error


def _without_pictures(message: Any) -> Any:
    content = message.get("content") if isinstance(message, dict) else None
    if not isinstance(content, list):
        return message
    parts = [
        part if _text(part) is not None else {"type": part.get("type")} for part in content if isinstance(part, dict)
    ]
    return {**message, "content": parts}


def _characters(message: Any) -> int:
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, list):
        return sum(len(_text(part) or "") for part in content)
    return len(content) if isinstance(content, str) else 0


def _text(part: Mapping[str, Any]) -> str | None:
    text = part.get("text")
    return text if isinstance(text, str) else None


# --- the advice ----------------------------------------------------------------------------------------------------


def _served_here(advice: Mapping[str, Any]) -> str:
    """The advised model, or its base model if this LiteLLM has no entry for an adapter."""
    for name in (advice["model"], advice.get("base_model")):
        if isinstance(name, str) and _exists(name):
            return name
    raise NoAdvice("unknown_model")


def _exists(name: str) -> bool:
    router = getattr(sys.modules.get("litellm.proxy.proxy_server"), "llm_router", None)
    names = getattr(router, "model_names", None)
    if names is None or name in names or name in (getattr(router, "model_group_alias", None) or {}):
        return True
    return any("*" in pattern and fnmatchcase(name, pattern) for pattern in names)


def _apply(advice: Mapping[str, Any], model: str, data: dict[str, Any]) -> None:
    data["model"] = model
    if isinstance(placed := advice.get("messages"), list):
        messages = data["messages"]
        data["messages"] = [messages[item] if isinstance(item, int) else item for item in placed]
    data.update(advice.get("set") or {})
    for name in advice.get("remove") or ():
        data.pop(name, None)
    if isinstance(advice.get("answer"), str):
        # LiteLLM answers with this itself, as JSON or as a stream.
        data["mock_response"] = advice["answer"]


def _about(advice: Mapping[str, Any]) -> dict[str, Any]:
    return {name: advice.get(name) for name in ("decision", "confidence", "scores")} | {
        "degraded": advice.get("degraded") or {}
    }


def _note(data: dict[str, Any], decided: dict[str, Any]) -> None:
    if isinstance(metadata := data.setdefault("metadata", {}), dict):
        metadata[KEY] = decided


def _line(advice: Mapping[str, Any], model: str) -> str:
    scores = advice.get("scores") or {}
    near = ", ".join(f"{name} {'?' if score is None else f'{score:.3f}'}" for name, score in scores.items())
    degraded = ",".join(advice.get("degraded") or ())
    without = f" without {degraded}" if degraded else ""
    return f"{advice.get('decision') or 'no decision'} -> {model} [{near}]{without}"


def _code(body: bytes) -> str | None:
    try:
        return str(json.loads(body)["error"]["code"])
    except (ValueError, KeyError, TypeError):
        return None


def _names(listed: str) -> frozenset[str]:
    return frozenset(name.strip() for name in listed.split(",") if name.strip())


# --- the log -------------------------------------------------------------------------------------------------------


class _Aside(logging.Handler):
    """Leaves writing to a thread of its own.

    Who writes gives up the interpreter meanwhile. The event loop would get it back when another of LiteLLM's threads
    lets go of it: 5 ms later, and more where processors are short. Lines that nobody takes are dropped in the end.
    """

    def __init__(self, to: logging.Handler) -> None:
        super().__init__()
        self._to, self._records = to, SimpleQueue[logging.LogRecord | None]()
        self._thread: Thread | None = None

    def emit(self, record: logging.LogRecord) -> None:
        # Here, for a process that was forked has no thread of its parent's.
        if self._thread is None or not self._thread.is_alive():
            self._thread = Thread(target=self._write, name="triton-router-log", daemon=True)
            self._thread.start()
        if self._records.qsize() < MOST_LINES:
            self._records.put(record)

    def _write(self) -> None:
        while (record := self._records.get()) is not None:
            self._to.handle(record)

    def close(self) -> None:
        if self._thread is not None:
            self._records.put(None)
            self._thread.join(1)
        super().close()


def _log_somewhere() -> None:
    """LiteLLM leaves the root logger alone; without a handler the lines above would be lost."""
    if not log.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s triton_router: %(message)s"))
        log.addHandler(_Aside(handler))
        log.setLevel(logging.INFO)


_log_somewhere()
hook = TritonRouter.from_environment()
