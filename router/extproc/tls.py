"""TLS for the ext_proc port, from files that may change while they are in use."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path
from typing import Any

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
    import grpc

    files = _Files(settings)
    renewed = lambda: _configuration(files) if files.renew() else None  # noqa: E731
    return grpc.dynamic_ssl_server_credentials(_configuration(files), renewed, settings.client_ca_file is not None)


def server_context(settings: ServerTls) -> ssl.SSLContext:
    """The same for Python's own TLS, with HTTP/2 as the only protocol.

    Raises:
        TlsFiles: they cannot be used now.
    """
    files = _Files(settings)

    def renew(connection: ssl.SSLObject, *_: object) -> None:
        files.renew()
        connection.context = files.context

    # OpenSSL calls it at each handshake, whether or not the client names a server.
    files.context.sni_callback = renew
    return files.context


class _Files:
    """The files' contents, and a context made of them."""

    def __init__(self, settings: ServerTls) -> None:
        self._settings = settings
        self.contents, self.context = _read(settings)

    def renew(self) -> bool:
        """Read the files again. Returns whether there are others now that can be used."""
        try:
            contents, context = _read(self._settings)
        except TlsFiles as error:
            log.warning("TLS files are not usable, the last ones stay", extra={"fields": {"reason": str(error)}})
            return False
        if contents == self.contents:
            return False
        self.contents, self.context = contents, context
        log.info("TLS files changed", extra={"fields": {"certificate": self._settings.cert_file}})
        return True


def _read(settings: ServerTls) -> tuple[tuple[bytes, bytes, bytes | None], ssl.SSLContext]:
    authority = settings.client_ca_file
    try:
        certificate, key = Path(settings.cert_file).read_bytes(), Path(settings.key_file).read_bytes()
        client_authority = Path(authority).read_bytes() if authority else None
    except OSError as error:
        raise TlsFiles(f"{_KEY}: {error}") from error
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["h2"])
    try:
        # Without the empty password OpenSSL would ask for one on the terminal.
        context.load_cert_chain(settings.cert_file, settings.key_file, password=lambda: "")
    except (ssl.SSLError, OSError) as error:
        raise TlsFiles(f"{_KEY}: {settings.cert_file} and {settings.key_file}: {error}") from error
    try:
        if authority:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(authority)
    except (ssl.SSLError, OSError) as error:
        raise TlsFiles(f"{_KEY}.client_ca_file: {authority}: {error}") from error
    return (certificate, key, client_authority), context


def _configuration(files: _Files) -> Any:
    certificate, key, client_authority = files.contents
    import grpc

    return grpc.ssl_server_certificate_configuration([(key, certificate)], client_authority)
