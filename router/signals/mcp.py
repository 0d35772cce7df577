"""MCP signals: a classifier of the operator's own, behind the Model Context Protocol.

The server's tool answers a class, and may hint at a model, an adapter and a reasoning switch. Sessions are kept open by
tasks of their own; a request only ever waits for one call, and not at all while no session lives.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar

from triton_router.config.plain import at, rules
from triton_router.config.report import Report
from triton_router.config.services import Identity, McpSettings
from triton_router.config.signals import McpSignal
from triton_router.errors import Unavailable
from triton_router.identity import believed
from triton_router.signals.contract import Evaluation, Evaluations, Needs, Setup, SignalInput, SignalKind, SignalResults

if TYPE_CHECKING:
    import httpx2
    from mcp import Client
    from mcp.client import Transport
    from mcp_types import CallToolResult

log = logging.getLogger(__name__)

# Seconds between attempts to reach a server: the first, and what doubling ends at.
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 2.0
# Seconds for a server to start and to shake hands; a classifier may load a model first.
CONNECT_WITHIN = 30.0
# How often a session that answers no calls is asked whether it still lives, and how long its answer may take.
PROBE_EVERY = 2.0
PROBE_WITHIN = 5.0
# A slow answer may be one bad moment; so many in a row are a state.
TIMEOUTS_IN_A_ROW = 3
# Common servers hang up after five idle seconds; a connection is given up before it can break under a call.
IDLE_SECONDS = 4.0
LONGEST_NAME = 256

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class McpClassification:
    """What the server said. ``confidence`` is in [0, 1]; hints that it did not give are ``None``."""

    category: str
    confidence: float
    model: str | None = None
    adapter: str | None = None
    use_reasoning: bool | None = None


class McpClasses(SignalKind[McpSignal]):
    """The classes that rules name. Unknown where no server is configured, or it cannot answer."""

    SETTINGS = McpSignal

    def __init__(self, signals: Sequence[McpSignal], setup: Setup) -> None:
        super().__init__([signal for signal in signals if signal.name in setup.used], setup)
        self._settings = setup.config.global_.model_catalog.modules.classifier.mcp
        self._classifier = setup.classifier if self._settings is not None else None
        self._identity = setup.config.global_.services.authz.identity
        if self._classifier is not None:
            self.needs = Needs(headers=True, service=McpSignal.TYPE)

    @classmethod
    def check(cls, data: Any, report: Report) -> None:
        settings = at(data, *McpSignal.MODULE)
        named = [path for path, rule in rules(data) if rule.get("type") == McpSignal.TYPE]
        if named and not isinstance(settings, dict):
            report.error(named[0], f"rules of type `mcp` need a server: {'.'.join(McpSignal.MODULE)}")
        elif named and settings.get("enabled") is False:
            report.warning(named[0], "the MCP server is off: a rule that depends on it never matches")
        if not isinstance(settings, dict):
            return
        url = settings.get("url")
        if isinstance(url, str) and "@" in url.partition("//")[2].partition("/")[0]:
            path = (*McpSignal.MODULE, "url")
            report.error(path, "put credentials into `http_headers`, which are never shown")
        _check_headers(data, settings.get("forward_headers"), report)

    async def ask(self, query: SignalInput, results: SignalResults) -> None:
        assert self._classifier is not None
        started, called = perf_counter(), self._classifier.failure is None
        headers = {
            name: query.headers[name]
            for name in self._classifier.settings.forward_headers
            if name in query.headers and believed(self._identity, name)
        }
        try:
            results.classified = await self._classifier.classify(query.read(self._classifier.settings.parts), headers)
        finally:
            if called:
                results.note(McpSignal.TYPE, started, perf_counter())

    def evaluate(self, query: SignalInput, results: SignalResults) -> Evaluations:
        classified = results.classified
        if classified is None or self._settings is None:
            return {}
        threshold, ms = self._settings.threshold, results.took(McpSignal.TYPE)
        return {key: _evaluated(key[1], classified, threshold, ms) for key in self.keys}


def _evaluated(name: str, classified: McpClassification, threshold: float, ms: float) -> Evaluation:
    value = classified.confidence if name == classified.category else 0.0
    return Evaluation(name == classified.category and value >= threshold, value, threshold, ms)


def _check_headers(data: Any, forwarded: Any, report: Report) -> None:
    """An identity header that nobody vouches for is not passed on."""
    identity = at(data, "global", "services", "authz", "identity") or {}
    if not isinstance(identity, dict) or identity.get("set_by", "nobody") != "nobody":
        return
    claims = {
        str(identity.get(key, field.default)).lower() for key, field in Identity.model_fields.items() if key != "set_by"
    }
    for index, name in enumerate(forwarded if isinstance(forwarded, list) else []):
        if str(name).lower() in claims:
            message = f"`{name}` is an identity header and is not forwarded, because it has no trusted source; "
            message += "set `global.services.authz.identity.set_by`"
            report.warning((*McpSignal.MODULE, "forward_headers", index), message)


class McpClassifier:
    """A client of one server. :meth:`run` keeps its sessions open until cancelled; use it in the same event loop.

    Raises:
        RuntimeError: the MCP SDK is not installed.
    """

    def __init__(self, settings: McpSettings) -> None:
        try:
            import mcp  # noqa: F401
        except ImportError as error:
            raise RuntimeError('the MCP signal needs: pip install "triton-router[mcp]"') from error
        # The SDK's own records quote messages, and so prompts; httpx2 writes a line a call.
        for name in ("mcp", "client", "httpx2", "httpcore2"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self.settings = settings
        # Over stdio each session is a process of its own.
        count = settings.sessions if settings.transport_type == "http" else 1
        self._sessions = [_Session(settings) for _ in range(count)]
        self._turn = 0
        self._in_flight = 0

    @property
    def failure(self) -> str | None:
        """Why the server is not used at the moment; ``None`` while it is."""
        if any(session.live for session in self._sessions):
            return None
        return self._sessions[0].failure

    @property
    def categories(self) -> tuple[str, ...]:
        """The classes that the server listed when it was last reached; none if it lists none."""
        return next((session.categories for session in self._sessions if session.categories), ())

    async def run(self) -> None:
        """Keep the sessions open until cancelled, then close them and end the processes behind them."""
        async with _http_client(self.settings) as http, asyncio.TaskGroup() as tasks:
            for session in self._sessions:
                tasks.create_task(session.run(http))

    async def classify(self, text: str, headers: Mapping[str, str]) -> McpClassification:
        """Ask for the class of ``text``; of the request's ``headers`` (lower case) those configured are passed on.

        Raises:
            Unavailable: no session lives, too many calls are in flight, or the call failed or took too long. The reason
                is ``starting``, ``unreachable``, ``deadline``, ``error`` (the tool failed or is not there),
                ``malformed`` or ``overload``.
        """
        if self._in_flight >= self.settings.max_in_flight:
            raise Unavailable("overload")
        # Half a surrogate pair, which JSON can carry and UTF-8 cannot, must not break the call.
        arguments: dict[str, Any] = {"text": text.encode("utf-8", "replace").decode(), "with_probabilities": False}
        if self.settings.forward_headers:
            arguments["headers"] = {name: headers[name] for name in self.settings.forward_headers if name in headers}
        self._in_flight += 1
        try:
            return await self._ask(arguments)
        finally:
            self._in_flight -= 1

    async def _ask(self, arguments: dict[str, Any]) -> McpClassification:
        failed = Unavailable(self.failure or "unreachable")
        deadline = asyncio.get_running_loop().time() + self.settings.timeout_seconds
        # A session may have lost its server without knowing; another one may live.
        for _ in range(2):
            session = self._next()
            if session is None:
                break
            try:
                return await session.classify(arguments, deadline)
            except Unavailable as unavailable:
                failed = unavailable
                if unavailable.reason != "unreachable":
                    break
                for other in self._sessions:
                    other.doubt()
        raise failed

    def _next(self) -> _Session | None:
        for _ in self._sessions:
            self._turn = (self._turn + 1) % len(self._sessions)
            if self._sessions[self._turn].live:
                return self._sessions[self._turn]
        return None


class _Session:
    """One session, opened and closed by the task that runs :meth:`run`; calls come from other tasks."""

    def __init__(self, settings: McpSettings) -> None:
        self._settings = settings
        self._client: Client | None = None
        self._timeouts = 0
        self._alive = False
        self._wake = asyncio.Event()
        self.lost = False
        self.failure: str | None = "starting"
        self.categories: tuple[str, ...] = ()

    @property
    def live(self) -> bool:
        return self._client is not None and self.failure is None

    def doubt(self) -> None:
        """Let the session prove soon that it still lives."""
        self._wake.set()

    async def run(self, http: httpx2.AsyncClient | None) -> None:
        pause = FIRST_PAUSE
        while True:
            try:
                async with _connected(self._settings, http) as client:
                    self.categories = await _categories(client, self._settings.list_tool_name)
                    self._up(client)
                    pause = FIRST_PAUSE
                    await self._watch(client)
            except Exception as error:
                self._down(*_reason(error))
            finally:
                self._client, self.failure = None, self.failure or "unreachable"
            if (task := asyncio.current_task()) and task.cancelling():
                # A server that dies while we are cancelled turns our end into an error of its own.
                raise asyncio.CancelledError
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _watch(self, client: Client) -> None:
        """Return or raise when the server is gone."""
        while not self.lost:
            self._alive = False
            try:
                async with asyncio.timeout(PROBE_EVERY):
                    await self._wake.wait()
            except TimeoutError:
                if self._alive:
                    continue
            self._wake.clear()
            if self.lost:
                return
            if self.failure is not None:
                # Too slow of late. Its list of tools may be quick all the same: give it rest before calls wait again.
                await asyncio.sleep(LONGEST_PAUSE)
            await _within(PROBE_WITHIN, client.list_tools())
            if not self.lost and self.failure is not None:
                self._up(client)

    async def classify(self, arguments: dict[str, Any], deadline: float) -> McpClassification:
        client = self._client
        assert client is not None
        call = client.call_tool(self._settings.tool_name, arguments)
        try:
            result = await _within(deadline - asyncio.get_running_loop().time(), call)
        except Exception as error:
            reason, detail = _reason(error)
            # A call that began before a reconnect says nothing about what is there now.
            if client is self._client:
                self._failed(reason, detail)
            raise Unavailable(reason) from error
        self._timeouts, self._alive = 0, True
        if result.is_error:
            raise Unavailable("error")
        return _classified(result)

    def _failed(self, reason: str, detail: str) -> None:
        if reason == "unreachable":
            self.lost = True
            self._down(reason, detail)
        elif reason == "deadline":
            self._timeouts += 1
            if self._timeouts >= TIMEOUTS_IN_A_ROW:
                self._down(reason, detail)

    def _up(self, client: Client) -> None:
        if self.failure is not None:
            log.info("MCP session is up", extra={"fields": {"categories": len(self.categories)}})
        self._client, self._timeouts, self.lost, self.failure = client, 0, False, None
        self._wake.clear()

    def _down(self, reason: str, detail: str) -> None:
        if self.failure != reason:
            log.warning("MCP session is not used", extra={"fields": {"reason": reason, "error": detail}})
        self.failure = reason
        self._wake.set()


async def _within(seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """The result of ``work``, or :class:`TimeoutError`.

    Unlike :func:`asyncio.wait_for` it does not wait for the end of what it cancels: the SDK tells the server first that
    a call is cancelled, and a server that hangs would hold the caller up for seconds more.
    """
    task = asyncio.create_task(work)
    try:
        await asyncio.wait({task}, timeout=seconds)
    finally:
        if not task.done():
            _abandoned.add(task)
            task.add_done_callback(_forget)
            task.cancel()
    if not task.done():
        raise TimeoutError
    return task.result()


_abandoned: set[asyncio.Task[Any]] = set()


def _forget(task: asyncio.Task[Any]) -> None:
    _abandoned.discard(task)
    if not task.cancelled():
        # Whatever came of it, nobody is waiting; unread it would be reported as lost.
        task.exception()


@contextlib.asynccontextmanager
async def _http_client(settings: McpSettings) -> AsyncIterator[httpx2.AsyncClient | None]:
    """One pool of connections for all sessions: making it reads the system's certificates, which takes long."""
    if settings.transport_type == "stdio":
        yield None
        return
    import httpx2

    limits = httpx2.Limits(max_keepalive_connections=settings.max_in_flight, keepalive_expiry=IDLE_SECONDS)
    # Streams of the server's own messages may be silent for minutes.
    timeout = httpx2.Timeout(CONNECT_WITHIN, read=300)
    async with httpx2.AsyncClient(headers=_revealed(settings.http_headers), limits=limits, timeout=timeout) as http:
        yield http


@contextlib.asynccontextmanager
async def _connected(settings: McpSettings, http: httpx2.AsyncClient | None) -> AsyncIterator[Client]:
    from mcp import Client

    transport = _over_stdio(settings) if http is None else _over_http(settings, http)
    async with Client(transport, read_timeout_seconds=CONNECT_WITHIN, cache=None) as client:
        # Read before the first call, or the SDK would do it within that call's time.
        await client.list_tools()
        yield client


def _over_http(settings: McpSettings, http: httpx2.AsyncClient) -> Transport:
    from mcp.client.streamable_http import streamable_http_client

    # Taking leave of a server that hangs would hold up our own end; it forgets sessions that nobody uses by itself.
    return streamable_http_client(settings.url or "", http_client=http, terminate_on_close=False)


def _over_stdio(settings: McpSettings) -> Transport:
    from mcp import StdioServerParameters
    from mcp.client.stdio import stdio_client

    env = _revealed(settings.env)
    return stdio_client(
        StdioServerParameters(
            command=settings.command or "", args=[each.get_secret_value() for each in settings.args], env=env
        )
    )


def _revealed(secrets: Mapping[str, Any]) -> dict[str, str]:
    return {name: secret.get_secret_value() for name, secret in secrets.items()}


async def _categories(client: Client, tool: str) -> tuple[str, ...]:
    """The server's classes; a server without that tool, or whose tool fails, has not said any."""
    try:
        result = await _within(PROBE_WITHIN, client.call_tool(tool, {}))
    except Exception as error:
        if _reason(error)[0] == "unreachable":
            raise
        return ()
    for answer in () if result.is_error else _answers(result):
        listed = answer.get("categories") if isinstance(answer, dict) else answer
        if isinstance(listed, list):
            names = (item.get("name") if isinstance(item, dict) else item for item in listed)
            return tuple(name for name in names if isinstance(name, str))
    return ()


def _answers(result: CallToolResult) -> Iterator[Any]:
    """What the result may mean, most telling first."""
    structured: Any = result.structured_content
    yield structured
    # SDKs wrap what is not an object (a list, or JSON that the tool made itself) in one.
    if isinstance(structured, dict):
        yield structured.get("result")
    text = next((part.text for part in result.content if part.type == "text"), "")
    with contextlib.suppress(ValueError, RecursionError):
        yield json.loads(text)


def _classified(result: CallToolResult) -> McpClassification:
    answer = next((each for each in _answers(result) if isinstance(each, dict) and "class" in each), {})
    category, confidence = answer.get("class"), answer.get("confidence")
    if not isinstance(category, str) or isinstance(confidence, bool) or not isinstance(confidence, int | float):
        raise Unavailable("malformed")
    if not 0 <= confidence <= 1:  # nor is NaN
        raise Unavailable("malformed")
    reasoning = answer.get("use_reasoning")
    return McpClassification(
        category,
        float(confidence),
        _name(answer.get("model")),
        _name(answer.get("adapter") or answer.get("lora_name")),
        reasoning if isinstance(reasoning, bool) else None,
    )


def _name(value: Any) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= LONGEST_NAME else None


def _reason(error: BaseException) -> tuple[str, str]:
    """The reason behind an error, and its type for the log: its text may quote what was asked."""
    from mcp import MCPError
    from mcp_types import CONNECTION_CLOSED, INVALID_REQUEST, REQUEST_TIMEOUT

    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    detail = type(error).__name__
    if isinstance(error, MCPError):
        # An invalid request is what a server says that has forgotten the session.
        reasons = {CONNECTION_CLOSED: "unreachable", INVALID_REQUEST: "unreachable", REQUEST_TIMEOUT: "deadline"}
        return reasons.get(error.code, "error"), f"{detail} {error.code}"
    if isinstance(error, TimeoutError):
        return "deadline", detail
    if isinstance(error, ValueError | RuntimeError):
        # What the SDK raises when an answer does not fit the protocol or the tool's own schema.
        return "malformed", detail
    return "unreachable", detail
