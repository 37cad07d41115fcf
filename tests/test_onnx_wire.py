"""Large tensors cut out of the bytes of an ONNX file: the parser's result stays the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from cnnrt.formats.onnx import wire  # noqa: E402
from cnnrt.formats.onnx.wire import without_tensors  # noqa: E402

PLACE = "here"
W = np.arange(20, dtype=np.float32)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes tensors of a few bytes count as large."""
    monkeypatch.setattr(wire, "LARGE", 16)


def tensor(name: str = "w") -> Any:
    return numpy_helper.from_array(W, name)


def everywhere() -> Any:
    """A model with a tensor at each place where one may lie."""
    branch = helper.make_graph([constant("c")], "branch", [], [value("c")], [tensor("b")])
    choice = helper.make_node("If", ["k"], ["i"], then_branch=branch, else_branch=branch)
    graph = helper.make_graph(
        [constant("d"), choice, helper.make_node("Relu", ["x"], ["y"])],
        "graph",
        [value("x")],
        [value("y")],
        [tensor("w"), numpy_helper.from_array(W[:2], "short"), tensor("v")],
    )
    lists = graph.node[2].attribute
    lists.append(helper.make_attribute("tensors", [tensor("t"), tensor("u")]))
    lists.append(helper.make_attribute("graphs", [branch, branch]))
    proto = helper.make_model(graph)
    ids = [helper.make_opsetid("", 24)]
    proto.functions.append(helper.make_function("own", "F", [], ["e"], [constant("e")], ids))
    return proto


def constant(name: str) -> Any:
    return helper.make_node("Constant", [], [name], value=tensor(name))


def value(name: str) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [20])


def tensors(message: Any) -> Iterator[Any]:
    """All tensors inside of a message."""
    for field, content in message.ListFields():
        if field.message_type is not None:
            for one in [content] if hasattr(content, "ListFields") else content:
                if isinstance(one, TensorProto):
                    yield one
                yield from tensors(one)


def put_back(message: bytes, data: bytes) -> tuple[Any, int]:
    """A model that was cut, parsed, with its tensors put back, and their number."""
    proto = onnx.ModelProto.FromString(message)
    count = 0
    for one in tensors(proto):
        fields = {entry.key: entry.value for entry in one.external_data}
        if fields.get("location") == PLACE:
            begin, size = int(fields["offset"]), int(fields["length"])
            assert 0 <= begin <= begin + size <= len(data)
            one.ClearField("external_data")
            one.ClearField("data_location")
            one.raw_data = data[begin : begin + size]
            count += 1
    return proto, count


def test_every_tensor_is_cut_out_and_nothing_else() -> None:
    proto = everywhere()
    data = proto.SerializeToString()
    message = without_tensors(memoryview(data), PLACE)
    assert message is not None
    again, count = put_back(message, data)
    assert again == proto
    assert count == 14
    assert W.tobytes() not in message


def test_a_model_without_large_tensors_is_taken_as_it_is() -> None:
    proto = everywhere()
    for one in tensors(proto):
        one.raw_data = b"1234"
    assert without_tensors(memoryview(proto.SerializeToString()), PLACE) is None
    assert without_tensors(memoryview(b""), PLACE) is None


def test_a_tensor_may_say_that_its_data_are_here() -> None:
    proto = everywhere()
    proto.graph.initializer[0].data_location = TensorProto.DEFAULT
    data = proto.SerializeToString()
    message = without_tensors(memoryview(data), PLACE)
    assert message is not None
    again, _ = put_back(message, data)
    proto.graph.initializer[0].ClearField("data_location")
    assert again == proto


# What is unusual ----------------------------------------------------------------------------------


def field(number: int, content: bytes | int, wire_type: int = 2) -> bytes:
    key = wire._varint(number << 3 | wire_type)
    if isinstance(content, int):
        return key + wire._varint(content)
    return key + (wire._varint(len(content)) if wire_type == 2 else b"") + content


RAW = field(9, W.tobytes())
TENSOR = field(1, 20, 0) + field(2, 1, 0) + field(8, b"w") + RAW
"""dims, data_type, name and raw data."""


def nested(depth: int) -> bytes:
    """Graphs in attributes of nodes of graphs."""
    graph = field(5, TENSOR)
    for _ in range(depth):
        graph = field(1, field(5, field(6, graph)))
    return field(7, graph)


ODD = {
    "raw data twice": field(7, field(5, TENSOR + RAW)),
    "raw data twice, one short": field(7, field(5, TENSOR + field(9, b"1234"))),
    "the graph twice": field(7, field(5, TENSOR)) * 2,
    "an attribute's tensor twice": field(7, field(1, field(5, field(5, TENSOR) * 2))),
    "an attribute's graph twice": field(7, field(1, field(5, field(6, field(5, TENSOR)) * 2))),
    "a segment": field(7, field(5, field(3, field(1, 0, 0)) + TENSOR)),
    "data elsewhere": field(7, field(5, field(14, 1, 0) + TENSOR)),
    "an entry of external data": field(7, field(5, field(13, field(1, b"a")) + TENSOR)),
    "typed data too": field(7, field(5, field(4, W.tobytes()) + TENSOR)),
    "a group": field(7, field(5, TENSOR)) + b"\xa3\x06\x08\x01\xa4\x06",
    "a group in the tensor": field(7, field(5, TENSOR + b"\xa3\x06\xa4\x06")),
    "field 0": field(7, field(5, TENSOR)) + b"\x02\x00",
    "wire type 7": field(7, field(5, TENSOR)) + b"\x0f",
    "a key of six bytes": b"\xba\x80\x80\x80\x80\x00" + field(7, field(5, TENSOR))[1:],
    "a field number above the limit": field(7, field(5, TENSOR)) + b"\x80\x80\x80\x80\x7f\x00",
    "a number of eleven bytes": field(7, field(5, TENSOR)) + b"\x08" + b"\x80" * 10 + b"\x00",
    "a length of six bytes": b"\x3a" + b"\x80" * 5 + b"\x00" + field(7, field(5, TENSOR)),
    "a length beyond the end": field(7, field(5, TENSOR) + b"\x2a\xff\x01" + TENSOR),
    "a length beyond all": field(7, field(5, TENSOR)) + b"\x3a\xff\xff\xff\xff\x0f",
    "a tensor beyond its graph": field(7, b"\x2a" + bytes([len(TENSOR) + 1]) + TENSOR)
    + b"\x08\x01",
    "an unfinished number": field(7, field(5, TENSOR)) + b"\x08\xff",
    "a fixed number cut off": field(7, field(5, TENSOR)) + b"\xa1\x06123",
    "too deep": nested(60),
    "deeper than the stack": nested(2000),
}


def parsed(data: bytes) -> Any:
    try:
        return onnx.ModelProto.FromString(data)
    except Exception:  # protobuf's DecodeError
        return None


@pytest.mark.parametrize("data", ODD.values(), ids=ODD)
def test_what_is_unusual_is_left_to_the_parser(data: bytes) -> None:
    assert without_tensors(memoryview(data), PLACE) is None


def test_too_many_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    data = everywhere().SerializeToString()
    monkeypatch.setattr(wire, "MAX_FIELDS", 20)
    assert without_tensors(memoryview(data), PLACE) is None


FINE: dict[str, bytes] = {
    "unknown fields": field(7, field(99, b"?" * 30) + field(5, TENSOR) + field(98, 7, 0)),
    "fixed numbers": b"\xa1\x0612345678\xa5\x061234" + field(7, field(5, TENSOR)),
    "lengths with leading zeros": b"\x3a" + bytes([len(TENSOR) + 2 | 128, 0]) + field(5, TENSOR),
    "the name twice": field(7, field(5, TENSOR + field(8, b"v"))),
    "a message where a number is expected": field(1, b"?" * 30) + field(7, field(5, TENSOR)),
    "a number where a message is expected": field(25, 5, 0) + field(7, field(5, TENSOR)),
    "deep": nested(10),
}


@pytest.mark.parametrize("data", FINE.values(), ids=FINE)
def test_what_is_not_looked_at_stays(data: bytes) -> None:
    message = without_tensors(memoryview(data), PLACE)
    assert message is not None
    again, count = put_back(message, data)
    assert (again, count) == (parsed(data), 1)


def test_any_damage_parses_as_before_or_is_left_alone() -> None:
    """Files cut off at every length, and with every byte changed."""
    whole = everywhere().SerializeToString()
    rng = np.random.default_rng(0)
    results: dict[str, int] = {"cut": 0, "left": 0}

    def check(data: bytes) -> None:
        message = without_tensors(memoryview(data), PLACE)
        if message is None:
            results["left"] += 1
            return
        results["cut"] += 1
        want = parsed(data)
        if want is None:
            assert parsed(message) is None
        else:
            assert put_back(message, data)[0] == want

    for i in range(len(whole)):
        check(whole[:i])
        for byte in (whole[i] ^ 1 << int(rng.integers(8)), int(rng.integers(256))):
            check(whole[:i] + bytes([byte]) + whole[i + 1 :])
    assert min(results.values()) > len(whole) / 4
