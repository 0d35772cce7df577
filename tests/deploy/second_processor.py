"""External processors that stand behind the router in a gateway: each notes what it sees.

They do on the wire what AIBrix's gateway plugin and the Inference Extension's endpoint picker do.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import grpc
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health import HealthServicer

from triton_router.extproc import wire

METHOD = "envoy.service.ext_proc.v3.ExternalProcessor"


@dataclass
class Seen:
    """One request, as it reached the second processor."""

    headers: dict[str, str]
    body: bytes = b""
    answer: bytes = field(default=b"", compare=False)

    @property
    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.body)
        return document


class SecondProcessor:
    """Listens while it is entered, on ``port`` or else on a free one, and says by gRPC health that it serves."""

    def __init__(self, port: int = 0) -> None:
        self.seen: list[Seen] = []
        self.health = HealthServicer()
        self._server = grpc.server(ThreadPoolExecutor(8))
        handler = grpc.stream_stream_rpc_method_handler(
            self._process, wire.ProcessingRequest.FromString, wire.ProcessingResponse.SerializeToString
        )
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(METHOD, {"Process": handler}),))
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{port}")

    def __enter__(self) -> SecondProcessor:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._server.stop(0).wait(5)

    def _process(self, messages: Iterator[Any], _: Any) -> Iterator[Any]:
        raise NotImplementedError

    def _request(self, message: Any) -> Seen:
        headers = {header.key: header.raw_value.decode() for header in message.request_headers.headers.headers}
        self.seen.append(Seen(headers))
        return self.seen[-1]


class GatewayPlugin(SecondProcessor):
    """As AIBrix's: reads the buffered body's model; names it, or a pod, in a header; picks the route again."""

    def __init__(self, pods: dict[str, int]) -> None:
        super().__init__()
        self._pods = pods

    def _process(self, messages: Iterator[Any], _: Any) -> Iterator[Any]:
        request = Seen({})
        for message in messages:
            kind = message.WhichOneof("request")
            reply = wire.ProcessingResponse()
            if kind == "request_body":
                request.body = message.request_body.body
                if (model := request.document["model"]) not in self._pods:
                    reply.immediate_response.status.code = 400
                    reply.immediate_response.body = f"model {model} does not exist".encode()
                else:
                    common = reply.request_body.response
                    common.clear_route_cache = True
                    named = {"model": model}
                    if strategy := request.headers.get("routing-strategy"):
                        named = {"routing-strategy": strategy, "target-pod": f"127.0.0.1:{self._pods[model]}"}
                    for name, value in named.items():
                        common.header_mutation.set_headers.add(header={"key": name, "raw_value": value.encode()})
            else:
                if kind == "request_headers":
                    request = self._request(message)
                elif kind == "response_body":
                    request.answer += message.response_body.body
                getattr(reply, kind).SetInParent()
            yield reply


class Passing(SecondProcessor):
    """Lets everything through as it is, after some time."""

    def _process(self, messages: Iterator[Any], _: Any) -> Iterator[Any]:
        for message in messages:
            if message.WhichOneof("request") == "request_headers":
                self._request(message)
            time.sleep(0.02)
            reply = wire.ProcessingResponse()
            getattr(reply, message.WhichOneof("request")).SetInParent()
            yield reply


class Refusing(SecondProcessor):
    """As a router that drains: whatever comes is to go elsewhere."""

    def _process(self, messages: Iterator[Any], context: Any) -> Iterator[Any]:
        self.seen.append(Seen({}))
        context.abort(grpc.StatusCode.UNAVAILABLE, "draining")
        yield


class EndpointPicker(SecondProcessor):
    """As the Inference Extension's: bodies in full duplex, both ways; the pod goes into a header."""

    def __init__(self, pod: int) -> None:
        super().__init__()
        self._pod = f"127.0.0.1:{pod}".encode()

    def _process(self, messages: Iterator[Any], _: Any) -> Iterator[Any]:
        request = Seen({})
        for message in messages:
            kind = message.WhichOneof("request")
            reply = wire.ProcessingResponse()
            if kind == "request_headers":
                request = self._request(message)
                continue  # the choice of a pod waits for the body
            if kind == "request_body":
                request.body += message.request_body.body
                if message.request_body.end_of_stream:
                    yield from self._chosen(request)
                continue
            if kind == "response_body":
                request.answer += message.response_body.body
                streamed = reply.response_body.response.body_mutation.streamed_response
                streamed.body = message.response_body.body
                streamed.end_of_stream = message.response_body.end_of_stream
            else:
                getattr(reply, kind).SetInParent()
            yield reply

    def _chosen(self, request: Seen) -> Iterator[Any]:
        reply = wire.ProcessingResponse()
        common = reply.request_headers.response
        common.clear_route_cache = True
        header = {"key": "x-gateway-destination-endpoint", "raw_value": self._pod}
        common.header_mutation.set_headers.add(header=header)
        yield reply
        reply = wire.ProcessingResponse()
        streamed = reply.request_body.response.body_mutation.streamed_response
        streamed.body, streamed.end_of_stream = request.body, True
        yield reply
