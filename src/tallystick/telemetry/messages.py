"""Protocol Buffers messages by their published field numbers: what is not needed of them is left out, and skipped."""

from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_fields = descriptor_pb2.FieldDescriptorProto
DOUBLE, INT64, INT32, UINT32 = (
    _fields.TYPE_DOUBLE,
    _fields.TYPE_INT64,
    _fields.TYPE_INT32,
    _fields.TYPE_UINT32,
)
TEXT = _fields.TYPE_STRING

Member = tuple[str, int, Any]
"""Name, number and type: one of those above or the name of a message; in a list: repeated."""


def message_class(package: str, name: str, messages: Mapping[str, Sequence[Member]]) -> Any:
    """The class of one of these messages."""
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
    for own, members in messages.items():
        made = file.message_type.add(name=own)
        for member, number, form in members:
            many = isinstance(form, list)
            kind: Any = form[0] if many else form
            nested = isinstance(kind, str)
            field: Any = made.field.add(name=member, number=number)
            field.type = _fields.TYPE_MESSAGE if nested else kind
            field.label = _fields.LABEL_REPEATED if many else _fields.LABEL_OPTIONAL
            if nested:
                field.type_name = f".{package}.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}"))
