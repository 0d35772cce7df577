"""Messages of protobuf from their definitions, for protocols of which the router uses a few fields.

Protobuf skips fields that it does not know, so a definition may leave out what nobody here reads or writes. Each
protocol has a descriptor pool of its own, so another package in the process may register the same names: the packages
that bring a whole API load much more, and some overwrite the files of others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_Field = descriptor_pb2.FieldDescriptorProto
# Enumerations are int32 here: the bytes are the same.
_SCALARS = {
    "bool": _Field.TYPE_BOOL,
    "bytes": _Field.TYPE_BYTES,
    "float": _Field.TYPE_FLOAT,
    "int32": _Field.TYPE_INT32,
    "int64": _Field.TYPE_INT64,
    "string": _Field.TYPE_STRING,
}


def messages(package: str, definitions: str, imports: Sequence[Any] = ()) -> Callable[[str], Any]:
    """A function that returns a message's class by its name.

    ``definitions`` are messages in protobuf's language, a field a line, without semicolons. ``imports`` are the
    descriptors of files whose messages they use.

    Raises:
        ValueError: a line is no definition.
    """
    pool = descriptor_pool.DescriptorPool()
    for each in imports:
        pool.AddSerializedFile(each.serialized_pb)
    pool.AddSerializedFile(_file(package, definitions, imports).SerializeToString())
    return lambda name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}"))


def _file(package: str, definitions: str, imports: Sequence[Any]) -> descriptor_pb2.FileDescriptorProto:
    """``definitions`` as protobuf's compiler would describe them."""
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
    file.dependency.extend(each.name for each in imports)
    message = descriptor_pb2.DescriptorProto()
    in_oneof = False
    for line in definitions.strip().splitlines():
        match line.split():
            case ["message", name, "{"]:
                message = file.message_type.add(name=name)
            case ["oneof", name, "{"]:
                message.oneof_decl.add(name=name)
                in_oneof = True
            case ["}"]:
                in_oneof = False
            case ["repeated", kind, name, "=", number]:
                _add_field(package, message, kind, name, int(number)).label = _Field.LABEL_REPEATED
            case [kind, name, "=", number]:
                field = _add_field(package, message, kind, name, int(number))
                if in_oneof:
                    field.oneof_index = 0
            case _:
                raise ValueError(f"no definition: {line}")
    return file


def _add_field(package: str, message: descriptor_pb2.DescriptorProto, kind: str, name: str, number: int) -> _Field:
    field = message.field.add(name=name, number=number, label=_Field.LABEL_OPTIONAL)
    if kind in _SCALARS:
        field.type = _SCALARS[kind]
        return field
    field.type = _Field.TYPE_MESSAGE
    if kind.startswith("map<"):
        # A map is a repeated message of keys and values, by this name.
        entry = message.nested_type.add(name=f"{name.title()}Entry")
        entry.options.map_entry = True
        key, value = kind.removeprefix("map<").removesuffix(">").split(",")
        _add_field(package, entry, key, "key", 1)
        _add_field(package, entry, value, "value", 2)
        field.label = _Field.LABEL_REPEATED
        kind = f"{message.name}.{entry.name}"
    field.type_name = f".{kind}" if kind.startswith("google.") else f".{package}.{kind}"
    return field
