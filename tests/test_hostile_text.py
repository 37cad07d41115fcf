"""JSON and text that nobody vouches for: nesting, repeated keys, encodings, broken characters."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest

import cnnrt
from cnnrt.errors import FormatError
from networks import network
from test_hostile import graph_bytes

X = np.zeros((1, 1, 2, 2), np.float32)


@pytest.mark.parametrize("where", ["attribute", "size", "notice", "labels", "metadata"])
def test_json_nested_just_less_than_its_parser_takes(where: str) -> None:
    graph = network({"x": X}, {}, ("y", "relu", "x"))
    data = graph_bytes(graph)
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    for depth in (*range(2, 40, 7), *range(900, 1000, 3), 3000, 30_000):
        metadata = dict(header["__metadata__"])
        deep = "[" * depth + "]" * depth
        if where == "attribute":
            text = metadata["cnnrt.graph"].replace(
                '"op":"relu"', f'"op":"relu","attributes":{deep}'
            )
            assert deep in text
            metadata["cnnrt.graph"] = text
        elif where == "metadata":
            metadata["other"] = deep  # another program's: not read
        else:
            key = "preprocessing" if where == "size" else where
            metadata[f"cnnrt.{key}"] = f'{{"size": {deep}}}' if where == "size" else deep
        text = json.dumps({**header, "__metadata__": metadata})
        changed = len(text).to_bytes(8, "little") + text.encode() + data[8 + length :]
        if where == "metadata":
            assert cnnrt.load(changed)
        else:
            with pytest.raises(FormatError):
                cnnrt.load(changed)


def with_metadata(**metadata: str) -> bytes:
    data = graph_bytes(network({"x": X}, {}, ("y", "relu", "x")))
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header["__metadata__"] |= {f"cnnrt.{key}": value for key, value in metadata.items()}
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


@pytest.mark.parametrize(
    "text", ['"\\ud800"', '"a\\uDFFF"', '{"\\udc80": 1}', '["\\ud83d", "\\ude00"]']
)
def test_halves_of_characters_are_refused(text: str) -> None:
    for key in ("notice", "producer", "labels", "graph"):
        with pytest.raises(FormatError, match="surrogates not allowed"):
            cnnrt.load(with_metadata(**{key: text}))
    assert cnnrt.load(with_metadata(labels='["\\ud83d\\ude00"]')).labels == ["\N{GRINNING FACE}"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig", "latin-1"])
def test_headers_that_are_not_utf8(encoding: str) -> None:
    data = with_metadata(notice='"é"')
    length = int.from_bytes(data[:8], "little")
    text = json.dumps(json.loads(data[8 : 8 + length]), ensure_ascii=False).encode(encoding)
    with pytest.raises(FormatError):
        cnnrt.load(len(text).to_bytes(8, "little") + text + data[8 + length :])


def test_repeated_keys_take_no_time() -> None:
    """In a megabyte of keys the last one occurs twice."""
    keys = ",".join(f'"k{i}":1' for i in range(100_000))
    start = time.perf_counter()
    with pytest.raises(FormatError, match="the key 'k99999' occurs twice"):
        cnnrt.load(with_metadata(producer=f'{{{keys},"k99999":2}}'))
    assert time.perf_counter() - start < 5
