"""Envoy's own configuration inside of other resources, put into a whole and shown to the real Envoy."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Manifest = dict[str, Any]
_TYPE = "type.googleapis.com/"
# Envoy has these since 1.36. A gateway with an older one refuses the patch, or leaves it out and says nothing (Istio).
TOO_NEW = frozenset({"status_on_error", "remove_on_match"})


def problems(manifest: Manifest) -> list[str]:
    """What Envoy says of the fragments in an EnvoyPatchPolicy or EnvoyFilter; nothing for other kinds."""
    try:
        return [*too_new(manifest), *_refusals(manifest)]
    except PatchFails as error:
        return [str(error)]


def too_new(manifest: Manifest) -> list[str]:
    """Fields in the patches that gateways in use do not know yet; the Envoy here does."""
    if manifest["kind"] not in ("EnvoyPatchPolicy", "EnvoyFilter"):
        return []
    return [f"{name} is too new for gateways in use" for name in sorted(TOO_NEW & set(_keys(manifest["spec"])))]


def _keys(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from _keys(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _keys(inner)


class PatchFails(Exception):
    """A patch does not fit what it is for."""


def _refusals(manifest: Manifest) -> Iterator[str]:
    if manifest["kind"] == "EnvoyPatchPolicy":
        yield from _validate(_patched(manifest["spec"]["jsonPatches"]))
    elif manifest["kind"] == "EnvoyFilter":
        yield from _validate(_filtered(manifest["spec"]["configPatches"]))


# --- what the patches are for --------------------------------------------------------------------------------------


def _gateway() -> dict[str, Any]:
    """A gateway as Envoy Gateway and Istio make one, as far as patches can see it."""
    router = {
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": _TYPE + "envoy.extensions.filters.http.router.v3.Router"},
    }
    manager = {
        "@type": _TYPE + "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "http",
        "route_config": {"name": "http", "virtual_hosts": []},
        # What a policy of the gateway's own puts before the router.
        "http_filters": [_jwt(), router],
    }
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    return {
        "name": "listener",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 10080}},
        # A real one has the first for HTTPS, or the second for HTTP.
        "filter_chains": [
            {"filter_chain_match": {"server_names": ["llm.example.com"]}, "filters": copy.deepcopy(filters)}
        ],
        "default_filter_chain": {"filters": filters},
    }


def _jwt() -> dict[str, Any]:
    kind = "envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication"
    return {"name": "envoy.filters.http.jwt_authn", "typed_config": {"@type": _TYPE + kind}}


def _patched(patches: list[Manifest]) -> dict[str, Any]:
    listener, clusters = _gateway(), []
    for patch in patches:
        operation = patch["operation"]
        value = copy.deepcopy(operation["value"])
        if operation["op"] == "test":
            _test(listener, operation["path"], value)
        elif operation["op"] != "add":
            raise PatchFails(f"operation {operation['op']} is not one that these checks know")
        elif patch["type"].endswith(".Cluster"):
            if value["name"] != patch["name"]:
                raise PatchFails(f"cluster {value['name']} is added under the name {patch['name']}")
            clusters.append(value)
        elif patch["type"].endswith(".Listener"):
            _add(listener, operation["path"], value)
        else:
            raise PatchFails(f"{patch['type']} is not one that these checks know")
    return {"static_resources": {"listeners": [listener], "clusters": clusters}}


def _at(document: Any, pointer: str, way: list[str]) -> Any:
    for word in way:
        try:
            document = document[int(word)] if isinstance(document, list) else document[word]
        except (KeyError, IndexError, ValueError) as error:
            raise PatchFails(f"{pointer}: there is no {word} in a listener of the gateway") from error
    return document


def _test(document: Any, pointer: str, value: Any) -> None:
    found = _at(document, pointer, pointer.split("/")[1:])
    if found != value:
        raise PatchFails(f"{pointer}: is {found}, not {value}")


def _add(document: Any, pointer: str, value: Any) -> None:
    *way, last = pointer.split("/")[1:]
    document = _at(document, pointer, way)
    if isinstance(document, list):
        if int(last) > len(document):
            raise PatchFails(f"{pointer}: there are only {len(document)} before it")
        document.insert(int(last), value)
    else:
        document[last] = value


def _filtered(patches: list[Manifest]) -> dict[str, Any]:
    listener, clusters = _gateway(), []
    manager = listener["default_filter_chain"]["filters"][0]["typed_config"]
    for patch in patches:
        how, value = patch["patch"]["operation"], copy.deepcopy(patch["patch"]["value"])
        match patch["applyTo"], how:
            case "HTTP_FILTER", "INSERT_FIRST":
                manager["http_filters"].insert(0, value)
            case "HTTP_FILTER", "INSERT_BEFORE":
                before = patch["match"]["listener"]["filterChain"]["filter"]["subFilter"]["name"]
                names = [each["name"] for each in manager["http_filters"]]
                if before not in names:
                    raise PatchFails(f"there is no filter {before} to insert before")
                manager["http_filters"].insert(names.index(before), value)
            case "NETWORK_FILTER", "MERGE":
                manager |= value["typed_config"]
            case "LISTENER", "MERGE":
                listener |= value
            case "CLUSTER", "ADD":
                clusters.append(value)
            case _:
                raise PatchFails(f"{how} to {patch['applyTo']} is not one that these checks know")
    return {"static_resources": {"listeners": [listener], "clusters": clusters}}


# --- Envoy ---------------------------------------------------------------------------------------------------------


def _validate(document: dict[str, Any]) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as directory:
        # Certificates belong to the gateway's pods; Envoy opens them even to validate.
        for context in _contexts(document):
            context.clear()
        path = Path(directory) / "envoy.json"
        path.write_text(json.dumps(document))
        command = [str(Path(sys.executable).with_name("envoy")), "--mode", "validate", "-c", str(path), "-l", "error"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        yield next((line for line in done.stderr.splitlines() if line.strip()), "Envoy refuses it")


def _contexts(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "common_tls_context":
                yield inner
            yield from _contexts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _contexts(inner)
