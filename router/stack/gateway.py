"""The Envoy that ``up`` runs, as the router's reload sees it: its cluster and route files follow each generation."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, NamedTuple

from triton_router.config import Config
from triton_router.config.schema import BackendRef
from triton_router.extproc.health import worker_addresses
from triton_router.stack import envoy
from triton_router.stack.demo_turn import DemoModel
from triton_router.stack.envoy import validation
from triton_router.stack.envoy.validation import EnvoyRefused

log = logging.getLogger(__name__)

# How long Envoy may take over new clusters: the first health check of a backend that does not answer.
WARM_WITHIN = 6.0
# Envoy says that it has a change once its main thread has it; its busy workers take it a little later, and nothing
# tells when. A request that the router sent by a new route meanwhile would find none.
SPREAD_WITHIN = 0.3
_DEMO = "demo.json"


class FileGateway:
    """Writes into Envoy's directory. Additions: clusters, then routes; removals: routes, then clusters.

    ``addresses`` maps endpoints to the demo backends that stand in their place; ``spare`` is a demo backend that
    serves any model, for endpoints that a later generation names.
    """

    def __init__(
        self, directory: Path, first: Config, addresses: Mapping[str, str] | None = None, spare: str | None = None
    ) -> None:
        self.addresses = dict(addresses or {})
        self._directory, self._current, self._spare = directory, first, spare
        self._first = served_models(first)
        self._admin_port = first.global_.services.envoy.admin_port

    @classmethod
    def of(cls, directory: Path, first: Config) -> FileGateway:
        """The gateway whose demo backends, if any, ``up`` has noted in ``directory``."""
        try:
            note = json.loads((directory / _DEMO).read_text())
        except FileNotFoundError:
            return cls(directory, first)
        return cls(directory, first, note["addresses"], note["spare"])

    @staticmethod
    def note(directory: Path, addresses: Mapping[str, str], spare: str) -> None:
        """Leave word of the demo backends for :meth:`of`."""
        directory.mkdir(parents=True, exist_ok=True)
        (directory / _DEMO).write_text(json.dumps({"addresses": dict(addresses), "spare": spare}))

    @staticmethod
    def forget(directory: Path) -> None:
        """Take back what an earlier :meth:`note` said."""
        (directory / _DEMO).unlink(missing_ok=True)

    def write(self) -> None:
        """Bring Envoy's files up to the first configuration; where there are none yet, all that it starts with.

        Raises:
            RuntimeError: the router speaks TLS, and Envoy is not told how.
        """
        config = self._with_addresses(self._current)
        if (self._directory / "bootstrap.json").exists():
            envoy.write_clusters(config, self._directory)
            envoy.write_routes(config, self._directory)
        else:
            workers = worker_addresses(config.global_.services.extproc)
            envoy.write(config, self._directory, workers=workers, access_log=Path("/dev/stdout"))

    async def widen(self, config: Config) -> None:
        """Serve the models of ``config`` beside those that are served now; return when Envoy does.

        Raises:
            EnvoyRefused: it does not. Then it goes on as before.
        """
        both = await asyncio.to_thread(self._beside, config)
        try:
            await self._apply("cds", envoy.write_clusters, both)
            await self._apply("rds", envoy.write_routes, both)
        except EnvoyRefused:
            # A refused file may have been taken in part.
            await asyncio.to_thread(self.write)
            raise
        await asyncio.sleep(SPREAD_WITHIN)
        self._current = config

    async def narrow(self, config: Config) -> None:
        """Serve the models of ``config`` only.

        Raises:
            EnvoyRefused: Envoy does not take the routes. Then all stay.
        """
        effective = await asyncio.to_thread(self._with_addresses, config)
        await self._apply("rds", envoy.write_routes, effective)
        await asyncio.to_thread(envoy.write_clusters, effective, self._directory)
        self._current = config

    def _beside(self, config: Config) -> Config:
        """``config`` and the models that are served now; Envoy has validated it where there is one to ask."""
        named = {model.name for model in config.providers.models}
        unnamed = [model for model in self._current.providers.models if model.name not in named]
        both = self._with_addresses(config.serving([*config.providers.models, *unnamed]))
        if (program := validation.binary()) is not None:
            validation.validate(both, program)
        return both

    def _with_addresses(self, config: Config) -> Config:
        if self._spare is None:
            return config
        for endpoint, models in served_models(config).items():
            models_at_first = set(self._first.get(endpoint, ()))
            if endpoint not in self.addresses or not set(models) <= models_at_first:
                self.addresses[endpoint] = self._spare
        return with_endpoints(config, self.addresses)

    async def _apply(self, kind: str, write: Callable[[Config, Path], str], config: Config) -> None:
        """Write a file and wait until Envoy has taken it, and none of its clusters is still warming."""
        before = await asyncio.to_thread(_state, self._admin_port, kind)
        version = await asyncio.to_thread(write, config, self._directory)
        state, deadline = before, asyncio.get_running_loop().time() + WARM_WITHIN
        while asyncio.get_running_loop().time() < deadline:
            state = await asyncio.to_thread(_state, self._admin_port, kind)
            if state.version == version and not state.warming:
                return
            if state.version != version and state.rejected > before.rejected:
                raise EnvoyRefused(f"Envoy has refused its new {kind}.json; its log says why")
            await asyncio.sleep(0.02)
        if state.version != version:
            raise EnvoyRefused(f"Envoy has not acknowledged its new {kind}.json within {WARM_WITHIN:.0f} s")
        log.warning("clusters are still warming", extra={"fields": {"clusters": state.warming}})


class _State(NamedTuple):
    """What Envoy says of one kind of its files: the version in use, how many it refused, clusters not ready yet."""

    version: str = ""
    rejected: int = 0
    warming: int = 0


def _state(admin_port: int, kind: str) -> _State:
    """All nothing where Envoy does not answer."""
    statistics = _admin(admin_port, "/stats?format=json&type=All&filter=version_text|update_rejected|warming_clusters")
    values = {str(entry["name"]): entry["value"] for entry in statistics.get("stats", []) if "name" in entry}

    def of(ending: str) -> Any:
        return next((value for name, value in values.items() if name.endswith(f"{ending}")), 0)

    infix = "cds" if kind == "cds" else f"rds.{envoy.ROUTE_TABLE}"
    warming = of("cluster_manager.warming_clusters") if kind == "cds" else 0
    return _State(str(of(f"{infix}.version_text")), int(of(f"{infix}.update_rejected")), int(warming))


def _admin(port: int, path: str) -> dict[str, list[dict[str, object]]]:
    connection = HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        connection.request("GET", path)
        answer: dict[str, list[dict[str, object]]] = json.loads(connection.getresponse().read())
        return answer
    except (OSError, HTTPException, ValueError):
        return {}
    finally:
        connection.close()


# --- demo backends -------------------------------------------------------------------------------------------------


def served_models(config: Config) -> dict[str, list[DemoModel]]:
    """What each endpoint serves: the models whose ``backend_refs`` name it, and their adapters.

    Nothing at all stands for anything that is asked for, as at an endpoint that loads adapters on demand.
    """
    loras = {card.name: tuple(lora.name for lora in card.loras) for card in config.routing.modelCards}
    served: dict[str, list[DemoModel]] = {}
    on_demand: set[str] = set()
    for model in config.providers.models:
        name = DemoModel(model.provider_model_id or model.name, loras.get(model.name, ()))
        for endpoint in dict.fromkeys(ref.endpoint for ref in model.backend_refs):
            served.setdefault(endpoint, []).append(name)
        on_demand.update(ref.endpoint for ref in model.backend_refs if ref.adapters_on_demand)
    return {endpoint: [] if endpoint in on_demand else models for endpoint, models in served.items()}


# What stands in the place of a provider's API on this machine has neither its certificate nor its path.
_PLAIN = {"base_url": None, "protocol": "http"}


def with_endpoints(config: Config, replaced: Mapping[str, str]) -> Config:
    """``config`` with other endpoints; those that ``replaced`` does not name stay."""

    def placed(ref: BackendRef) -> BackendRef:
        endpoint = replaced.get(ref.endpoint)
        return ref if endpoint is None else ref.model_copy(update=_PLAIN | {"endpoint": endpoint})

    return config.serving(
        model.model_copy(update={"backend_refs": tuple(map(placed, model.backend_refs))})
        for model in config.providers.models
    )
