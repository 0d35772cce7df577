"""Reads OTLP from its bytes, by field numbers that are written here: no generated code, and none of the router's."""

from __future__ import annotations

import struct
from typing import Any

# A field's number, its name and what it is: a message's name, or a kind of value. A list is of many.
SHAPES: dict[str, dict[int, tuple[str, Any]]] = {
    "request": {1: ("resource_spans", ["resource_spans"])},
    "resource_spans": {1: ("resource", "resource"), 2: ("scope_spans", ["scope_spans"])},
    "resource": {1: ("attributes", ["pair"])},
    "scope_spans": {1: ("scope", "scope"), 2: ("spans", ["span"])},
    "scope": {1: ("name", "text"), 2: ("version", "text")},
    "span": {
        1: ("trace", "bytes"), 2: ("id", "bytes"), 3: ("state", "text"), 4: ("parent", "bytes"), 5: ("name", "text"),
        6: ("kind", "integer"), 7: ("began", "fixed64"), 8: ("ended", "fixed64"), 9: ("attributes", ["pair"]),
        11: ("events", ["event"]), 15: ("status", "status"), 16: ("flags", "fixed32"),
    },
    "event": {1: ("at", "fixed64"), 2: ("name", "text"), 3: ("attributes", ["pair"])},
    "status": {2: ("message", "text"), 3: ("code", "integer")},
    "pair": {1: ("key", "text"), 2: ("value", "value")},
    "value": {
        1: ("text", "text"), 2: ("truth", "truth"), 3: ("integer", "integer"), 4: ("double", "double"),
        5: ("many", "values"), 6: ("pairs", "pairs"), 7: ("bytes", "bytes"),
    },
    "values": {1: ("values", ["value"])},
    "pairs": {1: ("pairs", ["pair"])},
}  # fmt: skip
_WIRE = {"integer": 0, "truth": 0, "fixed64": 1, "double": 1, "fixed32": 5}


def read(data: bytes, shape: str = "request") -> dict[str, Any]:
    """What ``data`` says, by the names above; lists are there without members too, fields that are unknown are not."""
    fields = SHAPES[shape]
    message: dict[str, Any] = {name: [] for name, kind in fields.values() if isinstance(kind, list)}
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        raw, at = _raw(data, at, tag & 7)
        if tag >> 3 not in fields:
            continue
        name, kind = fields[tag >> 3]
        (single,) = kind if isinstance(kind, list) else (kind,)
        assert tag & 7 == _WIRE.get(single, 2), f"{shape}.{name} as wire type {tag & 7}"
        value = _value(raw, single)
        if isinstance(kind, list):
            message[name].append(value)
        else:
            message[name] = value
    return message


def attributes(pairs: list[dict[str, Any]]) -> dict[str, Any]:
    return {pair["key"]: plain(pair["value"]) for pair in pairs}


def plain(value: dict[str, Any]) -> Any:
    """A value as Python has it; ``None`` is one that says nothing."""
    for kind, held in value.items():
        if kind == "many":
            return [plain(each) for each in held["values"]]
        return attributes(held["pairs"]) if kind == "pairs" else held
    return None


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 0x80:
            return value, at


def _raw(data: bytes, at: int, wire: int) -> tuple[Any, int]:
    if wire == 0:
        return _varint(data, at)
    length = {1: 8, 5: 4}.get(wire)
    if length is None:
        assert wire == 2, f"wire type {wire}"
        length, at = _varint(data, at)
    assert at + length <= len(data), "cut short"
    return data[at : at + length], at + length


def _value(raw: Any, kind: str) -> Any:
    match kind:
        case "integer":
            return raw - (1 << 64) if raw >> 63 else raw
        case "truth":
            return bool(raw)
        case "text":
            return raw.decode()
        case "bytes":
            return raw
        case "double":
            return struct.unpack("<d", raw)[0]
        case "fixed64" | "fixed32":
            return int.from_bytes(raw, "little")
        case _:
            return read(raw, kind)
