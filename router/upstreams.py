"""What a model's backends are sent besides the request: their key and headers, and not the client's credentials."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from triton_router.cache.scope import private_headers
from triton_router.config import Config
from triton_router.config.schema import BackendRef
from triton_router.config.services import Identity
from triton_router.errors import Refusal

# Seconds for which a key's file is not read again.
FRESH = 1.0


class Upstreams:
    """Of the models of one configuration. Keys are read when they are needed, and are in nobody's ``repr``."""

    def __init__(self, config: Config) -> None:
        identity = config.global_.services.authz.identity
        models = ((model.name, model.backend_refs[0]) for model in config.providers.models if model.backend_refs)
        self._by_model = {name: _Upstream(ref, identity) for name, ref in models if ref.external or ref.extra_headers}

    def changes(self, model: str, headers: Mapping[str, str]) -> tuple[Mapping[str, str], tuple[str, ...]]:
        """What to set among the request's ``headers``, and what to remove, on the way to the backends of ``model``.

        Raises:
            Refusal: the key cannot be had now. Without it the request would be refused there, or billed to others.
        """
        upstream = self._by_model.get(model)
        if upstream is None:
            return {}, ()
        try:
            return upstream.headers(), upstream.private(headers)
        except (OSError, ValueError) as error:
            message = f"The credential for the model `{model}` is not available."
            raise Refusal(503, message, code="upstream_credential_missing") from error


class _Upstream:
    def __init__(self, ref: BackendRef, identity: Identity) -> None:
        self._header, self._prefix = ref.auth_header, f"{ref.auth_prefix} " if ref.auth_prefix else ""
        self._key = _key(ref)
        self._extra = {name: value.get_secret_value() for name, value in ref.extra_headers.items()}
        self._identity = identity if ref.external and not ref.forward_credentials else None

    def private(self, headers: Mapping[str, str]) -> tuple[str, ...]:
        return private_headers(self._identity, headers) if self._identity is not None else ()

    def headers(self) -> Mapping[str, str]:
        """Raises ``OSError`` or ``ValueError`` where there is no key."""
        if self._key is None:
            return self._extra
        return self._extra | {self._header: self._prefix + self._key()}


def _key(ref: BackendRef) -> Callable[[], str] | None:
    if ref.api_key_file is not None:
        return _KeyFile(Path(ref.api_key_file)).read
    if ref.api_key_env is not None:
        name = ref.api_key_env
        return lambda: _usable(os.environ.get(name, ""))
    if ref.api_key is not None:
        key = ref.api_key.get_secret_value()
        return lambda: _usable(key)
    return None


class _KeyFile:
    """A file whose content may be replaced; while it cannot be read, the last key stays in use."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._key: str | None = None
        self._read_at = 0.0

    def read(self) -> str:
        """Raises ``OSError`` or ``ValueError`` where no key was there yet."""
        now = time.monotonic()
        if self._key is None or now - self._read_at >= FRESH:
            try:
                self._key = _usable(self._path.read_text().strip())
            except (OSError, ValueError):
                if self._key is None:
                    raise
            self._read_at = now
        return self._key


def _usable(key: str) -> str:
    """Raises ``ValueError`` for an empty key, or one that no header can carry."""
    if not key or not key.isascii() or not key.isprintable():
        raise ValueError("no usable key")
    return key
