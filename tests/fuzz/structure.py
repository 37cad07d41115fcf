"""Mutations of the structure of a file: nesting, repetition, names, sizes, functions, branches.

`mutate` changes the content of a network; these change its form. A file must take time and memory
in proportion to its size: they try to find one that does not.
"""

from __future__ import annotations

import itertools
import json
import random
from typing import Any

import mutate

NAMES = (
    *("", " ", ".", "..", "/", "a/b", "a.b", "x" * 1000, "x" * 1001),
    *("\x1b[2J", "\x00", "\n", "\x7f"),
    *("\u202e", "\ud800", "\udcff", "日本", "👩", "é", "e\u0301", "cnnrt.packed.im2col:w"),
    *("__metadata__", "cnnrt.graph", "file", "images", "None", "nan"),
    *("{0}", "%s", "{x!r}", "\\u001b"),
)
NUMBERS = (
    *("1e999", "-1e999", "1E400", "-0", "0.0", "1e-400", "01", "1.", "NaN"),
    *("9" * 400, "9" * 5000),
)
NOTES = ("notice", "producer", "labels", "preprocessing", "digests", "compiled")
DEPTHS = (1, 2, 3, 5, 20, 100, 900, 980, 990, 996, 1000, 3000, 20_000)


def mutated_model(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """A model.bin whose JSON, header or names are changed."""
    try:
        metadata, tensors = mutate.parts(data)
    except (ValueError, KeyError, TypeError, AttributeError, UnicodeDecodeError):
        return mutate.mutated_bytes(data, rng)
    kind = rng.randrange(7)
    try:
        if kind == 0:
            return mutate.file_of(_named(metadata, rng), tensors)
        if kind == 1:
            key = rng.choice([k for k in metadata if k != "cnnrt.format_version"] or [""])
            metadata[key] = _text(metadata[key], rng)
            return mutate.file_of(metadata, tensors)
        if kind == 2:
            return _header(data, rng)
        if kind == 3:
            metadata["cnnrt.graph"] = json.dumps(_longer(json.loads(metadata["cnnrt.graph"]), rng))
            return mutate.file_of(metadata, tensors)
        if kind == 4:
            metadata[f"cnnrt.{rng.choice(NOTES)}"] = _value(rng)
            return mutate.file_of(metadata, tensors)
        if kind == 5:
            return _compiled(metadata, tensors, rng)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        pass  # an earlier mutation left something that this one does not expect
    return mutate.mutated_model(data, other, rng)


def _deep(rng: random.Random) -> str:
    depth = rng.choice(DEPTHS)
    opening, closing = rng.choice((("[", "]"), ('{"a":', "}"), ('[{"a":', "}]"), ("[[],", "]")))
    middle = "" if opening[-1] in "[," else "1"
    return opening * depth + (middle or "[]") + closing * depth


def _value(rng: random.Random) -> str:
    """The text of any JSON value, or nearly one."""
    return rng.choice(
        (
            _deep(rng),
            json.dumps(rng.choice(NAMES)),
            rng.choice(NUMBERS),
            '{"a":1,"a":2}',
            "{" + ",".join(f'"k{i}":0' for i in range(rng.choice((3, 300)))) + "}",
            "[" + ",".join(["0"] * rng.choice((3, 2000))) + "]",
            rng.choice(("", "null", "true", "{}", "[]", '""', "\ufeff{}", "{", "\x00")),
            '{"size":' + rng.choice((_deep(rng), "[2,2]", "[1e9,2]", "[32768,32768]")) + "}",
        )
    )


def _text(text: str, rng: random.Random) -> str:
    """Changes a value, a spelling or a key at any place of a JSON text."""
    places = [i for i, c in enumerate(text) if c in ":,["]
    if not places:
        return _value(rng)
    at = rng.choice(places) + 1
    kind = rng.randrange(4)
    if kind == 0:
        return text[:at] + _value(rng) + "," + text[at:]
    if kind == 1:  # in place of what stands there
        end = min((i for i in (text.find(c, at) for c in ",]}") if i >= 0), default=len(text))
        return text[:at] + _value(rng) + text[end:]
    if kind == 2:  # a key or a value twice
        end = text.find(",", at)
        return text[:end] + "," + text[at:end] + text[end:] if end > 0 else text
    return text[:at] + rng.choice((" " * 1000, "\t", "\n", "/**/", "\ufeff")) + text[at:]


def _named(metadata: dict[str, str], rng: random.Random) -> dict[str, str]:
    """Puts other names in place of some."""
    text = metadata["cnnrt.graph"]
    graph = json.loads(text)
    names = [n["name"] for n in graph["nodes"]] + [n["op"] for n in graph["nodes"]]
    names += [o for n in graph["nodes"] for o in (*n["outputs"], *n["inputs"])]
    names += [graph["name"], *(s["name"] for s in (*graph["inputs"], *graph["outputs"]))]
    old, new = (json.dumps(n) for n in (rng.choice(names), rng.choice((*NAMES, *names))))
    return {**metadata, "cnnrt.graph": text.replace(old, new)}


def _header(data: bytes, rng: random.Random) -> bytes:
    """Changes a shape, dtype, offset or length in the header; the bytes stay as they are."""
    length = int.from_bytes(data[:8], "little")
    text = data[8 : 8 + length].decode()
    kind = rng.randrange(4)
    if kind == 0:
        length = rng.choice((*mutate.INTEGERS[5:], length + 1, length - 1)) % 2**64
        return length.to_bytes(8, "little") + data[8:]
    header = json.loads(text)
    if kind == 1 and len(header) > 1:
        entry = header[rng.choice([k for k in header if k != "__metadata__"])]
        field = rng.choice(list(entry))
        entry[field] = mutate._like(entry[field], rng)
        changed = json.dumps(header)
    elif kind == 2:
        name = rng.choice(NAMES)
        offsets = [rng.choice((0, 4, len(data) - 8 - length)) for _ in range(2)]
        shape = [rng.choice((0, 1, 2**62))]
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": offsets}
        changed = json.dumps(header)
    else:
        changed = _text(text, rng)
    encoding = rng.choice(("utf-8", "utf-8", "utf-8", "utf-16", "latin-1"))
    new = changed.encode(encoding, "surrogatepass" if encoding != "latin-1" else "replace")
    return len(new).to_bytes(8, "little") + new + data[8 + length :]


def _longer(graph: Any, rng: random.Random) -> Any:
    """Repeats the nodes, each copy reading the result of the one before."""
    count = rng.choice((2, 5, 20, 60))
    nodes, last = list(graph["nodes"]), graph["nodes"][-1]
    if rng.random() < 0.5:
        last = rng.choice(nodes)
    for i in range(count):
        before = nodes[-1]["outputs"][0]
        outputs = [f"{o}.{i}" if o else "" for o in last["outputs"]]
        inputs = [before, *last["inputs"][1:]]
        if rng.random() < 0.2:
            inputs = [before] * len(inputs)
        nodes.append({**last, "name": f"{last['name']}.{i}", "inputs": inputs, "outputs": outputs})
    outputs = [{**graph["outputs"][0], "name": nodes[-1]["outputs"][0], "shape": []}]
    return {**graph, "nodes": nodes, "outputs": outputs}


def _compiled(metadata: dict[str, str], tensors: dict[str, Any], rng: random.Random) -> bytes:
    """Adds packed weights that nothing has packed."""
    metadata["cnnrt.format_version"] = "2"
    kinds = ("im2col", "winograd2", "winograd4", "planar", "depthwise", "linear", "x")
    graph = json.loads(metadata["cnnrt.graph"])
    names = [*graph["constants"], "x"]
    ways = ("im2col", "winograd2", "auto", "y")
    document = {
        "packing": rng.choice((1, 1, 1, 2)),
        "isa": rng.choice(("avx2", "x")),
        "algorithms": {node["name"]: rng.choice(ways) for node in graph["nodes"][:3]},
    }
    metadata["cnnrt.compiled"] = json.dumps(document)
    packed = {}
    for _ in range(rng.randint(1, 3)):
        size = rng.choice((0, 16, 32, 256, 4096))
        name = f"cnnrt.packed.{rng.choice(kinds)}:{rng.choice(names)}"
        packed[name] = ["F32", [size], bytes(4 * size)]
    data = mutate.file_of(metadata, {**packed, **tensors})
    length = int.from_bytes(data[:8], "little")
    pad = -(8 + length) % 64
    header = data[8 : 8 + length] + b" " * pad
    return len(header).to_bytes(8, "little") + header + data[8 + length :]


# ONNX -------------------------------------------------------------------------------------------


def mutated_onnx(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """An ONNX model with functions, subgraphs, names or sizes of its own."""
    from google.protobuf.message import DecodeError, EncodeError
    from onnx import ModelProto

    try:
        proto = ModelProto.FromString(data)
    except DecodeError:
        return mutate.mutated_bytes(data, rng)
    change = rng.choice((_functions, _calls, _branches, _names, _sizes, _repeated, _texts))
    try:
        change(proto, rng)
        result = bytes(proto.SerializeToString())
    except (DecodeError, EncodeError):
        return data  # deeper than protobuf itself takes
    except (ValueError, TypeError, LookupError, OverflowError, RuntimeError, AttributeError):
        result = bytes(proto.SerializeToString())  # protobuf checks ranges and UTF-8 itself
    if rng.random() < 0.1:
        result = mutate.mutated_bytes(result, rng)
    return result if rng.random() < 0.6 else mutate.mutated_onnx(result, other, rng)


def _functions(proto: Any, rng: random.Random) -> None:
    """Turns nodes into functions that call each other, a few of the same name."""
    count, width = rng.choice(((1, 1), (2, 2), (3, 2), (4, 3), (9, 8), (60, 2), (120, 1)))
    hidden = rng.random() < 0.3
    for i in range(count):
        function = proto.functions.add(domain="f", name="F" if hidden else f"F{i}")
        function.overload = f"o{i}" if hidden or rng.random() < 0.1 else ""
        function.input.append("a")
        function.output.append("b")
        function.opset_import.add(domain="", version=rng.choice((1, 13, 17, 24)))
        function.opset_import.add(domain="f", version=1)
        ends = ["a", *(f"t{k}" for k in range(1, width)), "b"]
        for read, made in itertools.pairwise(ends):
            node = function.node.add(op_type="Relu", input=[read], output=[made])
            if i + 1 < count or rng.random() < 0.1:
                node.domain, node.op_type = "f", "F" if hidden else f"F{(i + 1) % count}"
                node.overload = f"o{i + 1}" if hidden else ""
    node = rng.choice(proto.graph.node)
    node.domain, node.op_type = "f", "F" if hidden else "F0"
    node.overload = "o0" if hidden else ""
    del node.input[1:], node.output[1:], node.attribute[:]
    proto.opset_import.add(domain="f", version=1)


def _calls(proto: Any, rng: random.Random) -> None:
    """Moves a node of the graph into a function, with its attributes by reference."""
    node = rng.choice(proto.graph.node)
    function = proto.functions.add()
    function.domain = rng.choice(("f", "", "ai.onnx"))
    function.name = rng.choice(("G", node.op_type))
    function.opset_import.extend(proto.opset_import)
    inner = function.node.add()
    inner.CopyFrom(node)
    function.input.extend(f"i{k}" for k in range(len(node.input)))
    function.output.extend(f"o{k}" for k in range(len(node.output)))
    inner.input[:] = function.input
    inner.output[:] = function.output
    for attribute in inner.attribute:
        if rng.random() < 0.5:
            function.attribute.append(attribute.name)
            kept = attribute.type
            name = attribute.name
            attribute.Clear()
            attribute.name, attribute.ref_attr_name, attribute.type = name, name, kept
    node.domain, node.op_type = function.domain, function.name
    proto.opset_import.add(domain="f", version=1)


def _branches(proto: Any, rng: random.Random) -> None:
    """Moves a node into the branches of an If, or a Loop's or Scan's body, some levels deep."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    node = rng.choice(proto.graph.node)
    condition = np.array(rng.choice((True, False)))
    proto.graph.initializer.append(numpy_helper.from_array(condition, "if.c"))
    for level in range(rng.choice((1, 1, 2, 5, 30, 60, 110))):
        inner = helper.make_graph([node], f"g{level}", [], [])
        for name in node.output:
            inner.output.add(name=name)
        outer = helper.make_node("If", ["if.c"], list(node.output))
        for name in ("then_branch", "else_branch")[: 1 if level > 10 else 2]:
            outer.attribute.add(name=name, type=5).g.CopyFrom(inner)
        if level > 10:
            outer.attribute.add(name="else_branch", type=5).g.name = "e"
        if rng.random() < 0.1:
            outer.op_type = rng.choice(("Loop", "Scan", "SequenceMap"))
        node_copy = type(node)()
        node_copy.CopyFrom(outer)
        if level == 0:
            place = proto.graph.node
            index = next(i for i, n in enumerate(place) if n is node or n == node)
        node = node_copy
    proto.graph.node[index].CopyFrom(node)
    if rng.random() < 0.2:
        proto.graph.initializer[-1].data_type = TensorProto.FLOAT


def _names(proto: Any, rng: random.Random) -> None:
    """Puts other names and texts, some of them no UTF-8."""
    new = rng.choice([n for n in NAMES if n.isprintable() or n.isascii()])
    graph = proto.graph
    places: list[tuple[Any, str]] = [(graph, "name"), (proto, "producer_name"), (proto, "domain")]
    places += [(n, f) for n in graph.node for f in ("name", "op_type", "domain", "doc_string")]
    places += [(v, "name") for v in (*graph.input, *graph.output, *graph.initializer)]
    places += [(o, "domain") for o in proto.opset_import]
    where, field = rng.choice(places)
    setattr(where, field, new)
    if rng.random() < 0.3:
        node = rng.choice(proto.graph.node)
        names = node.input if rng.random() < 0.5 else node.output
        if names:
            names[rng.randrange(len(names))] = new


def _sizes(proto: Any, rng: random.Random) -> None:
    """Gives tensors, inputs and external data sizes that are not theirs."""
    kind = rng.randrange(4)
    if kind == 0 and proto.graph.initializer:
        tensor = rng.choice(proto.graph.initializer)
        tensor.dims.append(rng.choice((0, 1, 2, 2**31, 2**62, -1)))
        rng.shuffle(tensor.dims)
    elif kind == 1:
        value = rng.choice((*proto.graph.input, *proto.graph.output))
        dim = value.type.tensor_type.shape.dim.add()
        dim.dim_value = rng.choice((0, 1, 7, 2**31, 2**62, -1))
    elif kind == 2 and proto.graph.initializer:
        tensor = rng.choice(proto.graph.initializer)
        tensor.data_location = 1
        for key in ("location", "offset", "length"):
            value = rng.choice((*NAMES[:9], "0", "-1", "9" * 30, "/dev/zero", "../x", "model.bin"))
            tensor.external_data.add(key=key, value=value)
    else:
        node = rng.choice(proto.graph.node)
        for attribute in node.attribute:
            attribute.ints.extend([rng.choice((0, 1, 2**31, -(2**63)))] * rng.choice((1, 60, 500)))


def _repeated(proto: Any, rng: random.Random) -> None:
    """Repeats a part many times."""
    count = rng.choice((2, 10, 60))
    kind = rng.randrange(5)
    if kind == 0:
        node = rng.choice(proto.graph.node)
        for i in range(count):
            copy = proto.graph.node.add()
            copy.CopyFrom(node)
            copy.output[:] = [f"{name}.{i}" for name in node.output]
            if copy.input and rng.random() < 0.8 and i:
                copy.input[0] = f"{node.output[0]}.{i - 1}"
    elif kind == 1 and proto.graph.initializer:
        tensor = rng.choice(proto.graph.initializer)
        for i in range(count):
            copy = proto.graph.initializer.add()
            copy.CopyFrom(tensor)
            copy.name = f"{tensor.name}_{i}" if rng.random() < 0.8 else tensor.name
    elif kind == 2:
        for _ in range(count):
            domain = rng.choice(("", "ai.onnx", "f"))
            proto.opset_import.add(domain=domain, version=rng.randint(0, 30))
    elif kind == 3:
        for i in range(count):
            proto.metadata_props.add(key=rng.choice(("cnnrt.labels", f"k{i}")), value=_fine(rng))
    else:
        node = rng.choice(proto.graph.node)
        node.input.extend(list(node.input) * count)


def _texts(proto: Any, rng: random.Random) -> None:
    """Adds notes as of exporters and of cnnrt."""
    node = rng.choice(proto.graph.node)
    nested = "[" * 900 + "]" * 900
    scopes = rng.choice(("['', 'a', 'b']", nested, "['']" * 9, "[__import__('os')]", "{"))
    node.metadata_props.add(key="pkg.torch.onnx.name_scopes", value=scopes)
    key = rng.choice(("labels", "preprocessing", "notice", "producer"))
    proto.metadata_props.add(key=f"cnnrt.{key}", value=_fine(rng))


def _fine(rng: random.Random) -> str:
    return _value(rng).encode("utf-8", "replace").decode()
