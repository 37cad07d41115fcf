"""Element types: the table agrees with NumPy's, ONNX's and the kernels' own."""

from __future__ import annotations

import copy
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnrt import _core
from cnnrt.dtypes import BFLOAT16, BY_CODE, DTYPES, FLOAT32, INT8, as_dtype
from cnnrt.graph import Array, TensorSpec, TensorType
from cnnrt.ops.narrow import NARROW


@pytest.mark.parametrize("name", DTYPES)
def test_table(name: str) -> None:
    onnx = pytest.importorskip("onnx")
    dtype = DTYPES[name]
    assert (dtype.name, str(dtype)) == (name, name)
    assert dtype.itemsize == dtype.numpy.itemsize
    number = "double" if name == "float64" else "float" if name == "float32" else name
    assert onnx.TensorProto.DataType.Name(dtype.code).lower() == number
    assert BY_CODE[dtype.code] is dtype
    if dtype != BFLOAT16:
        assert (dtype.numpy.name, dtype.numpy.kind) == (name, dtype.kind)


def test_spellings_of_one_type() -> None:
    for spelling in ("float32", np.float32, np.dtype("f4"), np.dtype(">f4"), "f4", FLOAT32):
        assert as_dtype(spelling) is FLOAT32
        dtype: Any = FLOAT32
        assert dtype == spelling
        dtype = INT8
        assert dtype != spelling
    assert as_dtype(bool) is DTYPES["bool"]
    assert as_dtype("bfloat16") is BFLOAT16
    assert BFLOAT16 not in (np.uint16, DTYPES["uint16"])
    assert FLOAT32 != 4
    assert FLOAT32 != "no dtype"
    assert FLOAT32 != [1]
    assert DTYPES["float64"] != None  # noqa: E711  (NumPy takes it for float64)
    assert len({FLOAT32, as_dtype(np.float32), TensorType(()).dtype}) == 1


def test_the_bfloat16_of_ml_dtypes() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    assert as_dtype(ml_dtypes.bfloat16) is BFLOAT16
    assert as_dtype(np.dtype(ml_dtypes.bfloat16)) is BFLOAT16


@pytest.mark.parametrize("value", ["complex64", np.dtype("M8[s]"), object, "float7", 3, None])
def test_what_no_tensor_holds(value: Any) -> None:
    with pytest.raises(TypeError, match=r"no tensor has elements of .*expected one of bool, uint8"):
        as_dtype(value)
    with pytest.raises(TypeError):
        TensorType((1,), value)


def test_numpy_takes_a_dtype() -> None:
    spec = TensorSpec("x", (2, 3), np.int8)
    assert np.zeros((2, 3), spec.dtype).dtype == np.int8
    assert np.ones(3).astype(spec.dtype).dtype == np.int8
    assert np.iinfo(spec.dtype).max == 127


def test_copies_are_the_same_object() -> None:
    for dtype in DTYPES.values():
        assert pickle.loads(pickle.dumps(dtype)) is dtype
        assert copy.deepcopy(dtype) is dtype


def converted(x: Array, source: str, target: str, isa: str, threads: int) -> Array:
    """The conversion kernel's result for x, in arrays of NumPy's."""
    plan = _core.Plan(isa)
    fields = {"x": (2, 0), "y": (3, 0), "from": source, "to": target}
    plan.add("convert", {**fields, "rows": 1, "columns": x.size})
    plan.finish(0, [(x.shape, x.dtype)], [(x.shape, DTYPES[target].numpy)], threads)
    return plan.run([x])[0]


def test_every_bfloat16(isa: str, threads: int) -> None:
    bits = np.arange(1 << 16, dtype=np.uint16)
    wide = converted(bits, "bfloat16", "float32", isa, threads)
    assert np.array_equal(wide.view(np.uint32), bits.astype(np.uint32) << 16)
    back = converted(wide, "float32", "bfloat16", isa, threads)
    quiet = np.where(np.isnan(wide), bits | 0x40, bits)  # NaN stays one, and becomes quiet
    assert np.array_equal(back, quiet)


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 511, 513, 20_000])
def test_bfloat16_is_rounded_to_even(isa: str, threads: int, size: int) -> None:
    random = np.random.default_rng(size)
    bits = random.integers(0, 1 << 32, size, dtype=np.uint32)
    bits[::3] = bits[::3] & 0xFFFF0000 | 0x8000  # halfway between two
    x = bits.view(np.float32)
    got = converted(x, "float32", "bfloat16", isa, threads)
    want = (NARROW["bfloat16"].cast(x).view(np.uint32) >> 16).astype(np.uint16)
    number = ~np.isnan(x)
    assert np.array_equal(got[number], want[number])
    assert np.isnan((got[~number].astype(np.uint32) << 16).view(np.float32)).all()


@pytest.mark.parametrize("name", ["uint32", "uint64"])
def test_large_unsigned_integers(name: str, isa: str, threads: int) -> None:
    end = 2.0 ** (8 * DTYPES[name].itemsize)
    x = np.float32([0, 0.9, 1, 2**31 - 128, 2**31, end / 2, end * (1 - 2**-24)])
    got = converted(x, "float32", name, isa, threads)
    assert np.array_equal(got, x.astype(name))
    assert np.array_equal(converted(got, name, "float32", isa, threads), got.astype(np.float32))


def test_no_other_source_lists_the_types() -> None:
    """A type is added in dtypes.def alone: elsewhere the compiler goes through that table."""
    kernels = Path(__file__).parent.parent / "cpp"
    kept_apart = re.compile(r"\bDType::(uint16|uint32|uint64|int16|boolean)\b")
    for source in kernels.rglob("*.[ch]*"):
        found = kept_apart.findall(source.read_text())
        assert not found, f"{source.name} spells out {found}: use with_type of kernels/element.h"
