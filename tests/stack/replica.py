"""A backend that answers as ill as it is told to, in a thread."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from local_stack import free_port


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Envoy resets connections that it has no use for."""


class Replica:
    """A server whose health check is green whatever it does with requests.

    ``illness`` is how it answers: a status, ``close`` without a response, ``reset`` of the connection, ``hang`` before
    it, ``midway`` in it, ``context`` for a prompt that is too long, ``early`` for hints before a 500, ``error`` for a
    200 that is none, or nothing wrong. ``retry_after`` is what statuses say. ``answer`` makes the body of a good
    response, and its type, of the request. ``keep_alive`` is after how many seconds it closes idle connections.
    ``requests`` counts what arrived; ``last`` is the last path, headers and body. ``gone`` is set once a client of a
    request that hangs has gone.
    """

    def __init__(self, illness: str = "", keep_alive: float | None = None) -> None:
        self.illness, self.requests, self.retry_after = illness, 0, b"5"
        self.answer: Callable[[dict[str, Any]], tuple[bytes, str]] = lambda body: (self.endpoint.encode(), "text/plain")
        self.gone = threading.Event()
        self.last: tuple[str, dict[str, str], dict[str, Any]] | None = None
        self.endpoint = f"127.0.0.1:{free_port()}"
        self._ends = threading.Event()
        replica = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = keep_alive

            def do_GET(self) -> None:
                self._send(200, b"ok")

            def do_POST(self) -> None:
                body = json.loads(self._content())
                replica.requests += 1
                replica.last = self.path, {name.lower(): value for name, value in self.headers.items()}, body
                illness = "" if body.get("user") == "poison" else replica.illness
                if body.get("user") == "poison":
                    self._send(int(body["metadata"]), b"{}")
                elif illness == "close":
                    self.close_connection = True
                elif illness == "reset":
                    # Without lingering, closing sends a reset.
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    self.close_connection = True
                elif illness == "midway":
                    self.send_response(200)
                    self.send_header("transfer-encoding", "chunked")
                    self.end_headers()
                    self.wfile.write(b"5\r\nhello\r\n")
                    self.wfile.flush()
                    # Envoy sees a response whose end comes with its beginning as none.
                    replica._ends.wait(0.2)
                    self.close_connection = True
                elif illness == "context":
                    self._send(400, b'{"error": {"message": "too long", "code": "context_length_exceeded"}}')
                elif illness == "hang":
                    self._hang()
                elif illness == "error":
                    self._send(200, b'{"error": {"message": "out of memory"}}', {"content-type": "application/json"})
                elif illness == "early":
                    self.wfile.write(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n")
                    self._send(500, b"{}")
                elif illness:
                    self._send(int(illness), b"{}", {"retry-after": replica.retry_after, "location": "/v1/completions"})
                else:
                    content, kind = replica.answer(body)
                    self._send(200, content, {"content-type": kind})

            def _hang(self) -> None:
                self.connection.settimeout(0.05)
                while not replica._ends.is_set():
                    try:
                        self.connection.recv(1)
                    except TimeoutError:
                        continue
                    except OSError:
                        pass
                    replica.gone.set()
                    break
                self.close_connection = True

            def _content(self) -> bytes:
                if "content-length" in self.headers:
                    return self.rfile.read(int(self.headers["content-length"]))
                content = b""
                while size := int(self.rfile.readline(), 16):
                    content += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return content

            def _send(self, status: int, body: bytes, headers: dict[str, str | bytes] | None = None) -> None:
                self.send_response(status)
                for name, value in {"content-length": str(len(body)), **(headers or {})}.items():
                    self.send_header(name, value if isinstance(value, str) else value.decode("latin-1"))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        host, port = self.endpoint.split(":")
        self._server = _Server((host, int(port)), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """End, with what hangs."""
        self._ends.set()
        self._server.shutdown()
        self._server.server_close()
