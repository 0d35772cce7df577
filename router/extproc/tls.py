"""TLS for the ext_proc port, from files that may be replaced while they are in use."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path
from typing import Any

import grpc

from triton_router.config.services import ServerTls

log = logging.getLogger(__name__)

_KEY = "global.services.extproc.tls"


class TlsFiles(RuntimeError):
    """A certificate, key or authority cannot be used. ``str()`` says which and why."""


def server_credentials(settings: ServerTls) -> Any:
    """Credentials that follow ``settings``' files: new connections get what is there by then.

    Files that do not fit together yet (a rotation half done) leave the last ones in force.

    Raises:
        TlsFiles: they cannot be used now.
    """
    follow = _Follower(settings)
    return grpc.dynamic_ssl_server_credentials(follow.first, follow, settings.client_ca_file is not None)


class _Follower:
    def __init__(self, settings: ServerTls) -> None:
        self._settings = settings
        self._seen = _read(settings)
        self.first = _configuration(self._seen)

    def __call__(self) -> Any:
        """What gRPC asks at each handshake: a new configuration, or ``None`` for the last one."""
        try:
            now = _read(self._settings)
        except TlsFiles as error:
            log.warning("TLS files are not usable, the last ones stay", extra={"fields": {"reason": str(error)}})
            return None
        if now == self._seen:
            return None
        self._seen = now
        log.info("TLS files changed", extra={"fields": {"certificate": self._settings.cert_file}})
        return _configuration(now)


def _read(settings: ServerTls) -> tuple[bytes, bytes, bytes | None]:
    authority = settings.client_ca_file
    try:
        certificate, key = Path(settings.cert_file).read_bytes(), Path(settings.key_file).read_bytes()
        callers = Path(authority).read_bytes() if authority else None
    except OSError as error:
        raise TlsFiles(f"{_KEY}: {error}") from error
    # gRPC would say nothing until somebody connects, and little then.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # Without the empty password OpenSSL would ask for one on the terminal.
        context.load_cert_chain(settings.cert_file, settings.key_file, password=lambda: "")
    except (ssl.SSLError, OSError) as error:
        raise TlsFiles(f"{_KEY}: {settings.cert_file} and {settings.key_file}: {error}") from error
    try:
        if authority:
            context.load_verify_locations(authority)
    except (ssl.SSLError, OSError) as error:
        raise TlsFiles(f"{_KEY}.client_ca_file: {authority}: {error}") from error
    return certificate, key, callers


def _configuration(files: tuple[bytes, bytes, bytes | None]) -> Any:
    certificate, key, callers = files
    return grpc.ssl_server_certificate_configuration([(key, certificate)], callers)
