"""TLS for the ext_proc port, from files that may change while they are in use."""

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
    """Credentials that follow the files of ``settings``: each new connection uses their present content.

    While files do not fit together (a rotation half done), the last ones stay in force.

    Raises:
        TlsFiles: they cannot be used now.
    """
    follower = _Follower(settings)
    return grpc.dynamic_ssl_server_credentials(follower.first, follower, settings.client_ca_file is not None)


class _Follower:
    def __init__(self, settings: ServerTls) -> None:
        self._settings = settings
        self._files = _read(settings)
        self.first = _configuration(self._files)

    def __call__(self) -> Any:
        """gRPC calls this at each handshake. Returns a new configuration, or ``None`` to keep the last one."""
        try:
            files = _read(self._settings)
        except TlsFiles as error:
            log.warning("TLS files are not usable, the last ones stay", extra={"fields": {"reason": str(error)}})
            return None
        if files == self._files:
            return None
        self._files = files
        log.info("TLS files changed", extra={"fields": {"certificate": self._settings.cert_file}})
        return _configuration(files)


def _read(settings: ServerTls) -> tuple[bytes, bytes, bytes | None]:
    authority = settings.client_ca_file
    try:
        certificate, key = Path(settings.cert_file).read_bytes(), Path(settings.key_file).read_bytes()
        client_authority = Path(authority).read_bytes() if authority else None
    except OSError as error:
        raise TlsFiles(f"{_KEY}: {error}") from error
    # gRPC itself reports nothing until somebody connects, and little then.
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
    return certificate, key, client_authority


def _configuration(files: tuple[bytes, bytes, bytes | None]) -> Any:
    certificate, key, client_authority = files
    return grpc.ssl_server_certificate_configuration([(key, certificate)], client_authority)
