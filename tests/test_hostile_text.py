"""Text that nobody vouches for: JSON, encodings, names of files, the environment's numbers."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

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
    """Reads a megabyte of keys, of which the last one occurs twice."""
    keys = ",".join(f'"k{i}":1' for i in range(100_000))
    start = time.perf_counter()
    with pytest.raises(FormatError, match="the key 'k99999' occurs twice"):
        cnnrt.load(with_metadata(producer=f'{{{keys},"k99999":2}}'))
    assert time.perf_counter() - start < 5


@pytest.mark.skipif(os.name != "posix", reason="kinds of files of POSIX")
def test_what_is_no_plain_file_is_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, "/dev/zero", "/dev/null"):
        with pytest.raises(FormatError, match="is not a regular file; read it and pass its bytes"):
            cnnrt.load(path)


@pytest.mark.parametrize("path", ["a\0b", "a" * 5000, "", ".", "\udcff", "/proc/self/mem"])
def test_paths_that_lead_nowhere(path: str) -> None:
    with pytest.raises(FormatError):
        cnnrt.load(path)


@pytest.mark.parametrize("text", ["9" * 11, "9" * 5000, "²", "٣", "-1", "0", "00", "1e3", "x"])
def test_numbers_of_threads_from_the_environment(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    model = cnnrt.load(graph_bytes(network({"x": X}, {}, ("y", "relu", "x"))))
    assert 1 <= model.threads <= 1 << 16
    assert model(X).shape == X.shape


def test_any_number_of_threads_can_be_asked_for() -> None:
    model = cnnrt.load(graph_bytes(network({"x": X}, {}, ("y", "relu", "x"))), threads=10**30)
    assert model(X).shape == X.shape


def test_numbers_beyond_float32_in_the_preprocessing() -> None:
    """Under this suite's settings a warning of NumPy is an error."""
    white = np.full((2, 2, 3), 255, np.uint8)
    for numbers in ({"scale": 1e300}, {"std": (1e-300,) * 3}, {"mean": (1e300,) * 3}):
        assert np.isinf(cnnrt.Preprocessing(size=(2, 2), **numbers)(white)).all()
