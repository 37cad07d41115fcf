"""Mutations of model files that know their structure: most results get past the first checks."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

import numpy as np

from cnnrt.dtypes import as_dtype
from cnnrt.formats.safetensors import CODES, OF_CODE
from cnnrt.graph import DTYPES
from cnnrt.ops import OPS, REQUIRED

INTEGERS = (
    *(-(2**63), -(2**31), -65536, -3, -2, -1, 0, 1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 64, 100, 255),
    *(1000, 4096, 65535, 65536, 2**20, 2**24, 2**30, 2**31 - 1, 2**31, 2**32, 2**40, 2**62),
    2**63 - 1,
)
FLOATS = (0.0, -0.0, 1.0, -1.0, 0.5, 1e-30, 1e30, 3e38, 1e300, float("inf"), float("nan"))


def mutated_bytes(data: bytes, rng: random.Random) -> bytes:
    """Bytes changed, cut off, doubled or swapped anywhere."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(len(out) + 1)
        kind = rng.randrange(5)
        if kind == 0 and at < len(out):
            out[at] = rng.randrange(256)
        elif kind == 1 and at < len(out):
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 2:
            del out[at : at + rng.choice((1, 2, 8, 64))]
        elif kind == 3:
            out[at:at] = out[at : at + rng.choice((1, 4, 16))]
        else:
            out = out[:at] if rng.random() < 0.3 else out
    return bytes(out)


# model.bin --------------------------------------------------------------------------------------


def mutated_model(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """A model.bin changed in its graph, its tensors, its header or its bytes."""
    try:
        metadata, tensors = parts(data)
        graph = json.loads(metadata["cnnrt.graph"])
        graph["nodes"][0]["op"]
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, UnicodeDecodeError):
        return mutated_bytes(data, rng)
    if rng.random() < 0.05:
        return mutated_bytes(data, rng)
    try:
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            kind = rng.random()
            if kind < 0.25:
                _change_tensor(graph, tensors, rng)
            elif kind < 0.45:
                _change_attribute(graph, rng)
            elif kind < 0.6:
                _change_wiring(graph, rng)
            elif kind < 0.7:
                _change_input(graph, rng)
            elif kind < 0.85:
                _splice(graph, tensors, *parts(other), rng)
            else:
                _change_anywhere(graph, rng)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError):
        pass  # an earlier mutation left something that this one does not expect
    metadata["cnnrt.graph"] = json.dumps(graph)
    if rng.random() < 0.05:
        key = rng.choice(("cnnrt.preprocessing", "cnnrt.labels", "cnnrt.format_version", "x"))
        metadata[key] = json.dumps(_value(rng))
    return file_of(metadata, tensors)


def parts(data: bytes) -> tuple[dict[str, str], dict[str, list[Any]]]:
    """The metadata, and for each tensor its dtype, shape and bytes."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    metadata = header.pop("__metadata__")
    body = data[8 + length :]
    return metadata, {
        name: [t["dtype"], t["shape"], body[slice(*t["data_offsets"])]]
        for name, t in header.items()
    }


def file_of(metadata: Any, tensors: dict[str, list[Any]]) -> bytes:
    header: dict[str, Any] = {"__metadata__": metadata}
    body = b""
    for name, (dtype, shape, content) in tensors.items():
        offsets = [len(body), len(body) + len(content)]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
        body += content
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def _change_tensor(graph: Any, tensors: dict[str, list[Any]], rng: random.Random) -> None:
    """Gives a tensor another value, shape or dtype; the whole stays consistent."""
    name = rng.choice(list(tensors))
    dtype, shape, content = tensors[name]
    array = np.frombuffer(content, OF_CODE[dtype].numpy).reshape(shape).copy()
    kind = rng.randrange(5)
    if kind == 0:
        array = _as(array, rng.choice(DTYPES))
    elif kind == 1 and array.size:
        _set(array, rng)
    elif kind == 2 and array.ndim:
        axis = rng.randrange(array.ndim)
        array = np.concatenate([array, array], axis)[tuple([slice(0, 64)] * array.ndim)]
    elif kind == 3 and array.ndim:
        axis = rng.randrange(array.ndim)
        array = np.take(array, range(rng.randint(0, array.shape[axis])), axis)
    elif array.size:
        array = array.reshape(rng.choice((-1, (1, -1), (-1, 1), (1, 1, -1), (-1, 1, 1, 1))))
    tensors[name] = [CODES[as_dtype(array.dtype)], list(array.shape), array.tobytes()]
    graph["constants"][name] = array.dtype.name


def _as(array: np.ndarray[Any, Any], dtype: str) -> np.ndarray[Any, Any]:
    with np.errstate(all="ignore"):
        return array.astype(dtype)


def _set(array: np.ndarray[Any, Any], rng: random.Random) -> None:
    flat = array.reshape(-1)
    with np.errstate(all="ignore"):
        wanted = rng.choice(FLOATS if array.dtype.kind == "f" else INTEGERS)
        flat[rng.randrange(flat.size)] = np.array(wanted).astype(array.dtype)


def _change_attribute(graph: Any, rng: random.Random) -> None:
    node = rng.choice(graph["nodes"])
    known = OPS[node["op"]].attributes
    attributes = node.setdefault("attributes", {})
    name = rng.choice([*known, *attributes])
    default = attributes.get(name, known.get(name))
    attributes[name] = _like(None if default is REQUIRED else default, rng)


def _change_wiring(graph: Any, rng: random.Random) -> None:
    node = rng.choice(graph["nodes"])
    made = [*graph["constants"], *(i["name"] for i in graph["inputs"])]
    made += [o for n in graph["nodes"] for o in n["outputs"]]
    kind = rng.randrange(7)
    if kind == 0 and node["inputs"]:
        node["inputs"][rng.randrange(len(node["inputs"]))] = rng.choice(made)
    elif kind == 1:
        node["inputs"].append(rng.choice([*made, ""]))
    elif kind == 2 and node["inputs"]:
        node["inputs"].pop()
    elif kind == 3:
        node["op"] = rng.choice(list(OPS))
        node.pop("attributes", None)
    elif kind == 4:
        node["outputs"].append(rng.choice(["", f"more{rng.randrange(99)}"]))
    elif kind == 5:
        graph["outputs"][rng.randrange(len(graph["outputs"]))]["name"] = rng.choice(made)
    elif len(graph["nodes"]) > 1:
        graph["nodes"].remove(node)


def _change_input(graph: Any, rng: random.Random) -> None:
    spec = rng.choice(graph["inputs"])
    shape = spec["shape"]
    kind = rng.randrange(4)
    if kind == 0:
        spec["dtype"] = rng.choice(DTYPES)
    elif kind == 1:
        shape.insert(rng.randint(0, len(shape)), rng.choice((0, 1, 2, 3)))
    elif kind == 2 and shape:
        shape.pop()
    elif shape:
        shape[rng.randrange(len(shape))] = rng.choice((*INTEGERS, "n", "batch"))


def _splice(
    graph: Any,
    tensors: dict[str, list[Any]],
    metadata: dict[str, str],
    more: dict[str, list[Any]],
    rng: random.Random,
) -> None:
    """Appends another file's nodes, which read one of this file's tensors as their input."""
    if len(graph["nodes"]) > 30:
        return
    other = json.loads(metadata["cnnrt.graph"])
    mark = f"{rng.randrange(1000)}."
    made = [i["name"] for i in graph["inputs"]] + [
        o for n in graph["nodes"] for o in n["outputs"] if o
    ]
    renamed = {"": ""} | {i["name"]: rng.choice(made[-4:]) for i in other["inputs"]}
    for name, tensor in more.items():
        renamed[name] = mark + name
        tensors[mark + name] = tensor
        graph["constants"][mark + name] = other["constants"][name]
    for node in other["nodes"]:
        node["inputs"] = [renamed.get(name, mark + name) for name in node["inputs"]]
        node["outputs"] = [mark + name if name else "" for name in node["outputs"]]
        graph["nodes"].append(node)
    last = next(o for o in other["nodes"][-1]["outputs"] if o)
    graph["outputs"] = [{"name": last, "shape": [], "dtype": "float32"}]


def _change_anywhere(document: Any, rng: random.Random) -> None:
    """Replaces any value of a JSON document by any other."""
    places: list[tuple[Any, Any]] = []

    def walk(value: Any) -> None:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, entry in items:
            places.append((value, key))
            if isinstance(entry, (dict, list)):
                walk(entry)

    walk(document)
    where, key = rng.choice(places)
    if rng.random() < 0.2:
        del where[key]
    else:
        where[key] = _like(where[key], rng)


def _value(rng: random.Random) -> Any:
    options: Sequence[Any] = (
        *(
            None,
            True,
            False,
            "",
            "x",
            "float32",
            "SAME_UPPER",
            [],
            {},
            [1],
            [1, 1],
            [2] * 4,
            [0, 1],
        ),
        *({"float": "inf"}, {"float": "nan"}, [[1]], "\u0000", "a" * 2000, [-1, -1], [9] * 6),
    )
    return rng.choice((rng.choice(options), rng.choice(INTEGERS), rng.choice(FLOATS[:9])))


def _like(value: Any, rng: random.Random) -> Any:
    """A value of the same kind, mostly."""
    if rng.random() < 0.2 or value is None:
        return _value(rng)
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return rng.choice(INTEGERS)
    if isinstance(value, float):
        return rng.choice(FLOATS[:9])
    if isinstance(value, list) and value:
        changed = list(value)
        kind = rng.randrange(4)
        if kind == 0:
            changed.append(changed[0])
        elif kind == 1:
            changed.pop()
        else:
            place = rng.randrange(len(changed))
            changed[place] = _like(changed[place], rng)
        return changed
    return _value(rng)


# ONNX -------------------------------------------------------------------------------------------


def mutated_onnx(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """An ONNX model changed in any field of any of its messages, or its bytes."""
    from google.protobuf.message import DecodeError
    from onnx import ModelProto

    if rng.random() < 0.05:
        return mutated_bytes(data, rng)
    try:
        proto, second = ModelProto.FromString(data), ModelProto.FromString(other)
    except DecodeError:
        return mutated_bytes(data, rng)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        try:
            if rng.random() < 0.1 and second.graph.node and proto.graph.node:
                _splice_onnx(proto, second, rng)
            elif rng.random() < 0.3 and proto.graph.initializer:
                _change_initializer(rng.choice(proto.graph.initializer), rng)
            else:
                _change_message(proto, rng)
        except (ValueError, TypeError, LookupError, OverflowError, RuntimeError):
            pass  # protobuf checks ranges and UTF-8 itself
    return bytes(proto.SerializeToString())


def _change_initializer(tensor: Any, rng: random.Random) -> None:
    from onnx import numpy_helper

    if tensor.data_location:
        return
    array = np.array(numpy_helper.to_array(tensor))
    kind = rng.randrange(3)
    if kind == 0 and array.size:
        _set(array, rng)
    elif kind == 1:
        array = _as(array, rng.choice(("float32", "int64", "int32", "bool", "uint8", "float64")))
    else:
        array = array.reshape(rng.choice((-1, (1, -1), (-1, 1), (1, 1, -1))))
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def _splice_onnx(proto: Any, other: Any, rng: random.Random) -> None:
    """Appends another file's nodes and constants, with a tensor of this file as their input."""
    if len(proto.graph.node) > 30:
        return
    mark = f"{rng.randrange(1000)}."
    made = [i.name for i in proto.graph.input] + [o for n in proto.graph.node for o in n.output]
    constants = {t.name for t in other.graph.initializer}
    renamed = {i.name: rng.choice(made[-4:]) for i in other.graph.input if i.name not in constants}
    for tensor in other.graph.initializer:
        proto.graph.initializer.add().CopyFrom(tensor)
        proto.graph.initializer[-1].name = mark + tensor.name
    for node in other.graph.node:
        copy = proto.graph.node.add()
        copy.CopyFrom(node)
        for i, name in enumerate(node.input):
            copy.input[i] = renamed.get(name, mark + name) if name else ""
        for i, name in enumerate(node.output):
            copy.output[i] = mark + name if name else ""
    del proto.graph.output[1:]
    proto.graph.output[0].name = mark + other.graph.node[-1].output[0]


def _change_message(message: Any, rng: random.Random) -> None:
    """Goes down through messages that are set, at random, and changes one field."""
    fields = message.ListFields()
    inner = [(f, v) for f, v in fields if f.type == f.TYPE_MESSAGE]
    if inner and rng.random() < 0.85:
        field, value = rng.choice(inner)
        if not field.is_repeated:
            return _change_message(value, rng)
        kind = rng.randrange(12)
        place = rng.randrange(len(value))
        if kind == 0:
            del value[place]
        elif kind == 1 and len(value) < 30:
            value.add().CopyFrom(value[place])
        elif kind == 2:
            value[place].CopyFrom(rng.choice(value))
        else:
            _change_message(value[place], rng)
        return None
    field = rng.choice(message.DESCRIPTOR.fields)
    if field.type == field.TYPE_MESSAGE:
        return None
    new = _field_value(field, rng)
    if not field.is_repeated:
        setattr(message, field.name, new)
        return None
    values = getattr(message, field.name)
    if len(values) and rng.random() < 0.7:
        values[rng.randrange(len(values))] = new
    elif len(values) and rng.random() < 0.5:
        values.pop()
    elif len(values) < 64:
        values.append(new)
    return None


def _field_value(field: Any, rng: random.Random) -> Any:
    if field.cpp_type in (field.CPPTYPE_FLOAT, field.CPPTYPE_DOUBLE):
        return rng.choice(FLOATS)
    if field.type == field.TYPE_BYTES:
        return rng.choice((b"", b"\0" * 8, b"SAME_UPPER", b"\xff" * 4, b"linear"))
    if field.cpp_type == field.CPPTYPE_STRING:
        return rng.choice(
            ("", "x", "y", "data", "../x", "Conv", "Add", "Reshape", "location", "a" * 2000)
        )
    if field.cpp_type == field.CPPTYPE_ENUM:
        return rng.choice([v.number for v in field.enum_type.values])
    if field.cpp_type in (field.CPPTYPE_INT32, field.CPPTYPE_UINT32):
        return rng.choice([v for v in INTEGERS if -(2**31) <= v < 2**31])
    return rng.choice(INTEGERS)
