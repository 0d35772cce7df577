"""A relay in front of Envoy: it passes requests on as they are, and keeps what was sent and what was decided."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from triton_router.names import DECISION

# Seconds that a response may take.
PATIENCE = 180.0


class Exchange(NamedTuple):
    """A POST with the status of its response, and the decision that its headers name."""

    path: str
    body: dict[str, Any]
    status: int
    decision: str | None


class Relay(ThreadingHTTPServer):
    """Listens on a free port for Envoy on the port ``gateway``."""

    daemon_threads = True

    def __init__(self, gateway: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.gateway = gateway
        self.exchanges: list[Exchange] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Relay
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:  # the base class looks for this name
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        connection = HTTPConnection("127.0.0.1", self.server.gateway, timeout=PATIENCE)
        headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
        connection.request(self.command, self.path, body or None, headers)
        response = connection.getresponse()
        if self.command == "POST":
            path = self.path.partition("?")[0]
            exchange = Exchange(path, json.loads(body or b"{}"), response.status, response.getheader(DECISION))
            self.server.exchanges.append(exchange)
        self.send_response_only(response.status)
        for name, value in response.getheaders():
            if name.lower() not in ("connection", "transfer-encoding"):
                self.send_header(name, value)
        # The end of the connection is the end of the body, so that pieces of a stream pass as they come.
        self.send_header("connection", "close")
        self.end_headers()
        while piece := response.read1(1 << 16):
            self.wfile.write(piece)
        connection.close()

    do_GET = do_HEAD = do_POST  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:
        """Be silent about each request."""


@contextmanager
def relay_to(gateway: int) -> Iterator[Relay]:
    """A relay while it is needed."""
    with Relay(gateway) as relay:
        thread = threading.Thread(target=relay.serve_forever)
        thread.start()
        try:
            yield relay
        finally:
            relay.shutdown()
            thread.join()
