"""Single operators on cnnrt and onnxruntime: does any fall off a cliff?

    python bench/operators.py [--operators TEXT,...] [--engines cnnrt,onnxruntime] [--threads 1]
                              [--seconds S] [--rounds R] [--cliff 1.67] [--out operators.json]

Every row is an ONNX model of one operator at a size of real networks, called from Python with an
array. The time is that of the whole call, array in and array out. The result is compared with
onnxruntime's. Rows on which cnnrt takes more than `--cliff` times as long as onnxruntime are
marked, and make the program exit with 1.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import machine
import numpy as np
import onnx
import report
from element_types import chains, element_types, reductions_and_moves, selections
from engines import Array, Source
from operator_case import RECENT, Case, f, i, rng
from race import Entry, Turn, Worker, WorkerError
from spellings import computed, spellings

MAP = (1, 64, 56, 56)
"""The feature map of most rows."""


def cases() -> Iterator[Case]:
    """All rows."""
    yield from _convolutions()
    yield from _pools()
    yield from _norms()
    yield from _elementwise()
    yield from _products()
    yield from _reductions()
    yield from _shapes()
    yield from _indices()
    yield from _sampling()
    yield from _recurrent()
    yield from _integers()
    yield from element_types()
    yield from selections()
    yield from reductions_and_moves()
    yield from computed()
    yield from chains()
    yield from spellings()


def _convolutions() -> Iterator[Case]:
    def conv(note: str, x: Array, m: int, k: tuple[int, ...], **attributes: Any) -> Case:
        w = f(m, x.shape[1] // attributes.get("group", 1), *k)
        attributes.setdefault("pads", [(n - 1) // 2 for n in k] * 2)
        return Case("Conv", x, (w * 0.05, f(m)), attributes, note)

    yield conv("3x3", f(*MAP), 64, (3, 3))
    yield conv("3x3 stride 2", f(*MAP), 128, (3, 3), strides=[2, 2])
    yield conv("1x1", f(*MAP), 256, (1, 1))
    yield conv("1x1 stride 2", f(*MAP), 128, (1, 1), strides=[2, 2])
    yield conv("5x5", f(1, 32, 28, 28), 64, (5, 5))
    yield conv("7x7 stride 2, 3 channels", f(1, 3, 224, 224), 64, (7, 7), strides=[2, 2])
    yield conv("11x11 stride 4, 3 channels", f(1, 3, 224, 224), 64, (11, 11), strides=[4, 4])
    yield conv("3x3 dilation 2", f(*MAP), 64, (3, 3), dilations=[2, 2], pads=[2] * 4)
    yield conv("3x3, 1 to 1 channel", f(1, 1, 256, 256), 1, (3, 3))
    yield conv("9x9, 64 to 3 channels", f(1, 64, 128, 128), 3, (9, 9))
    yield conv("3x3, 17 to 19 channels", f(1, 17, 57, 57), 19, (3, 3))
    yield conv("1x7", f(1, 128, 17, 17), 128, (1, 7))
    yield conv("depthwise 3x3", f(1, 96, 56, 56), 96, (3, 3), group=96)
    yield conv("depthwise 3x3 stride 2", f(1, 96, 56, 56), 96, (3, 3), group=96, strides=[2, 2])
    yield conv("depthwise 7x7", f(1, 96, 56, 56), 96, (7, 7), group=96)
    yield conv("depthwise 31x31", f(1, 64, 32, 32), 64, (31, 31), group=64)
    yield conv("depthwise, 2 per channel", f(*MAP), 128, (3, 3), group=64)
    yield conv("32 groups of 4", f(1, 128, 56, 56), 128, (3, 3), group=32)
    yield conv("8 groups of 16", f(1, 128, 28, 28), 128, (3, 3), group=8)
    yield conv("3 groups of 5", f(1, 15, 56, 56), 15, (3, 3), group=3)
    yield conv("batch 8", f(8, 64, 28, 28), 64, (3, 3))
    yield conv("1D 3", f(1, 64, 4096), 64, (3,))
    yield conv("1D 80 stride 16, 1 channel", f(1, 1, 16000), 32, (80,), strides=[16], pads=[0, 0])
    yield conv("1D dilation 64", f(1, 32, 8000), 64, (2,), dilations=[64], pads=[64, 0])
    yield conv("1D depthwise 9", f(1, 128, 1000), 128, (9,), group=128)
    yield conv("3D 3x3x3", f(1, 32, 8, 28, 28), 32, (3, 3, 3))
    yield conv("3D 1x1x1", f(1, 64, 8, 28, 28), 64, (1, 1, 1))
    yield conv("3D depthwise", f(1, 32, 8, 28, 28), 32, (3, 3, 3), group=32)
    yield conv("3D 3x7x7 stride 2", f(1, 3, 8, 112, 112), 45, (3, 7, 7), strides=[1, 2, 2])

    def transposed(note: str, x: Array, m: int, k: tuple[int, ...], **attributes: Any) -> Case:
        w = f(x.shape[1], m // attributes.get("group", 1), *k)
        return Case("ConvTranspose", x, (w * 0.05, f(m)), attributes, note)

    yield transposed("2x2 stride 2", f(1, 128, 28, 28), 64, (2, 2), strides=[2, 2])
    yield transposed("4x4 stride 2", f(1, 64, 28, 28), 64, (4, 4), strides=[2, 2], pads=[1] * 4)
    yield transposed("3x3", f(1, 64, 28, 28), 64, (3, 3), pads=[1] * 4)
    yield transposed("depthwise", f(1, 64, 28, 28), 64, (4, 4), strides=[2, 2], group=64)
    yield transposed("1D stride 4", f(1, 64, 500), 32, (8,), strides=[4], pads=[2, 2])
    yield transposed("3D stride 2", f(1, 32, 8, 14, 14), 32, (2, 2, 2), strides=[2, 2, 2])


def _pools() -> Iterator[Case]:
    def pool(op: str, note: str, x: Array, k: int, s: int, **attributes: Any) -> Case:
        n = x.ndim - 2
        attributes |= {"kernel_shape": [k] * n, "strides": [s] * n}
        return Case(op, x, (), attributes, f"{note}{k}x{k} stride {s}".strip())

    for op in ("MaxPool", "AveragePool"):
        yield pool(op, "", f(*MAP), 2, 2)
        yield pool(op, "", f(1, 64, 112, 112), 3, 2, pads=[1] * 4)
        yield pool(op, "", f(*MAP), 3, 1, pads=[1] * 4)
        yield pool(op, "ceil ", f(*MAP), 3, 2, ceil_mode=1)
        yield pool(op, "", f(1, 64, 28, 28), 13, 1, pads=[6] * 4)
        yield pool(op, "3 channels ", f(1, 3, 224, 224), 3, 2)
        yield pool(op, "1D ", f(1, 64, 4096), 4, 4)
        yield pool(op, "3D ", f(1, 32, 8, 28, 28), 2, 2)
    yield pool("MaxPool", "dilation 2 ", f(*MAP), 3, 1, dilations=[2, 2])
    yield pool("LpPool", "", f(*MAP), 3, 2)
    for op in ("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"):
        yield Case(op, f(1, 512, 14, 14))
    yield Case("GlobalAveragePool", f(1, 512, 7, 7, 7), note="3D")


def _norms() -> Iterator[Case]:
    c = MAP[1]
    scale, bias = f(c), f(c)
    yield Case("BatchNormalization", f(*MAP), (scale, bias, f(c), abs(f(c)) + 1))
    yield Case("InstanceNormalization", f(*MAP), (scale, bias))
    yield Case("GroupNormalization", f(*MAP), (scale, bias), {"num_groups": 8})
    yield Case("LayerNormalization", f(1, 197, 768), (f(768), f(768)))
    yield Case("LayerNormalization", f(*MAP), (f(*MAP[1:]),), {"axis": 1}, "of the whole image")
    yield Case("LayerNormalization", f(1, 3136, 96), (f(96), f(96)), note="96 channels")
    yield Case("RMSNormalization", f(1, 197, 768), (f(768),), {}, "", RECENT)
    yield Case("LRN", f(*MAP), (), {"size": 5})
    yield Case("LpNormalization", f(197, 768))
    yield Case("MeanVarianceNormalization", f(*MAP))
    yield Case("Softmax", f(1, 1000))
    yield Case("Softmax", f(12, 197, 197), note="attention")
    yield Case("Softmax", f(1, 21, 128, 128), (), {"axis": 1}, "over channels")
    yield Case("LogSoftmax", f(64, 1000))
    yield Case("Hardmax", f(64, 1000))


def _elementwise() -> Iterator[Case]:
    x = f(*MAP)
    names = (
        "Relu LeakyRelu Elu Selu Celu Sigmoid HardSigmoid HardSwish Softplus Softsign Tanh Mish "
        "ThresholdedRelu Gelu Erf Exp Abs Neg Floor Ceil Round Sign Sin Cos Tan Atan Sinh Shrink"
    )
    for op in names.split():
        yield Case(op, x, opset=22)
    for op in ("Sqrt", "Log", "Reciprocal"):
        yield Case(op, abs(x) + 0.1)
    for op in ("Asin", "Acos", "Atanh"):
        yield Case(op, np.clip(x, -0.9, 0.9))
    yield Case("Gelu", x, (), {"approximate": "tanh"}, "tanh")
    yield Case("PRelu", x, (f(64, 1, 1),))
    yield Case("Clip", x, (np.float32(0), np.float32(6)))  # type: ignore[arg-type]
    for op in ("Add", "Sub", "Mul", "Div", "Max", "Min", "Pow"):
        y = abs(f(*MAP)) + 0.5
        positive = abs(x) + 0.1
        yield Case(op, positive, (y,))
        yield Case(op, positive, (y[:, :, :1, :1],), note="per channel")
        yield Case(op, positive, (y[:1, :1, :1, :1].reshape(()),), note="scalar")
    yield Case("Add", f(1, 3136, 96), (f(96),), note="last axis")
    yield Case("Add", f(1, 64, 1, 56), (f(1, 1, 56, 1),), note="outer")
    yield Case("Pow", abs(x), (np.array(2, np.float32),), note="2")
    yield Case("Mod", x, (abs(f(*MAP)) + 1,), {"fmod": 1})
    for op in ("Greater", "Equal", "LessOrEqual"):
        yield Case(op, x, (f(*MAP),))
    yield Case("Not", x > 0)
    yield Case("And", x > 0, (f(*MAP) > 0,))
    yield Case("Where", x > 0, (f(*MAP), f(*MAP)))
    yield Case("Cast", x, (), {"to": onnx.TensorProto.INT64}, "to int64")
    yield Case("Cast", x, (), {"to": onnx.TensorProto.FLOAT16}, "to float16")
    yield Case("IsNaN", x)
    yield Case("Identity", x)


def _products() -> Iterator[Case]:
    yield Case("Gemm", f(1, 4096), (f(1000, 4096), f(1000)), {"transB": 1}, "one row")
    yield Case("Gemm", f(197, 768), (f(768, 3072), f(3072)), note="197 rows")
    yield Case("Gemm", f(64, 100), (f(64, 50),), {"transA": 1}, "transposed")
    yield Case("MatMul", f(197, 768), (f(768, 768),))
    yield Case("MatMul", f(1, 197, 768), (f(768, 768),), note="3 axes")
    yield Case("MatMul", f(12, 64, 64), ("x",), note="batch of 12")
    yield Case("MatMul", f(256, 256), ("x",), note="two tensors")
    yield Case("MatMul", f(7, 13, 13), ("x",), note="small, odd")
    yield Case("MatMul", f(2000, 64), (f(64),), note="by a vector")
    yield Case("Einsum", f(4, 64, 96), (f(4, 96, 80),), {"equation": "bij,bjk->bik"}, "product")
    yield Case("Einsum", f(64, 96), (), {"equation": "ij->ji"}, "transpose")
    yield Case("Einsum", f(2, 49, 4, 32), ("x",), {"equation": "bqhd,bkhd->bhqk"}, "attention")
    heads = {"q_num_heads": 12, "kv_num_heads": 12}
    yield Case("Attention", f(1, 197, 768), ("x", "x"), heads, "12 heads", RECENT)


def _reductions() -> Iterator[Case]:
    x = f(*MAP)
    for op in ("Sum", "Mean", "Max", "Min", "Prod", "L1", "L2", "LogSumExp", "SumSquare"):
        yield Case(f"Reduce{op}", x * 0.1, (i(2, 3),), note="over the image")
    for axes in ((1,), (3,), (0, 1, 2, 3), (0, 2, 3)):
        text = "over " + ",".join(map(str, axes))
        yield Case("ReduceMean", x, (i(*axes),), note=text)
    yield Case("ArgMax", f(1, 21, 128, 128), (), {"axis": 1}, "over channels")
    yield Case("ArgMax", f(64, 1000), (), {"axis": 1}, "over rows")
    yield Case("CumSum", f(64, 1000), (np.array(1),))
    yield Case("TopK", f(64, 1000), (i(5),), outputs=2)
    yield Case("TopK", f(1, 8400), (i(300),), note="300 of 8400", outputs=2)


def _shapes() -> Iterator[Case]:
    x = f(*MAP)
    for perm in ((0, 2, 3, 1), (0, 1, 3, 2), (2, 3, 0, 1)):
        yield Case("Transpose", x, (), {"perm": perm}, ",".join(map(str, perm)))
    yield Case("Transpose", f(1, 197, 12, 64), (), {"perm": (0, 2, 1, 3)}, "heads")
    yield Case("Reshape", x, (i(1, 64, -1),))
    yield Case("Flatten", x)
    yield Case("Squeeze", x, (i(0),))
    yield Case("Concat", x, (f(*MAP),), {"axis": 1}, "channels")
    yield Case("Concat", x, (f(*MAP),), {"axis": 3}, "columns")
    yield Case("Split", x, (i(32, 32),), {"axis": 1}, outputs=2)
    yield Case("Slice", x, (i(1, 1), i(55, 55), i(2, 3)), note="inner")
    yield Case("Slice", x, (i(0), i(10**6), i(3), i(2)), note="step 2")
    yield Case("Slice", x, (i(-1), i(-(10**6)), i(2), i(-1)), note="reversed")
    for mode in ("constant", "reflect", "edge", "wrap"):
        yield Case("Pad", x, (i(0, 0, 3, 3, 0, 0, 3, 3),), {"mode": mode}, mode)
    yield Case("Tile", x, (i(1, 1, 2, 2),))
    yield Case("Expand", f(1, 64, 1, 1), (i(1, 64, 56, 56),))
    yield Case("DepthToSpace", x, (), {"blocksize": 2})
    yield Case("DepthToSpace", (100 * x).astype(np.uint8), (), {"blocksize": 2}, "uint8")
    yield Case("DepthToSpace", x, (), {"blocksize": 2, "mode": "CRD"}, "pixel shuffle")
    yield Case("SpaceToDepth", x, (), {"blocksize": 2})
    yield Case("Trilu", f(64, 128, 128))


def _indices() -> Iterator[Case]:
    rows = rng.integers(0, 1000, (1, 128))
    yield Case("Gather", f(1000, 256), (rows,), note="rows")
    yield Case("Gather", f(1, 256, 1000), (rows[0],), {"axis": 2}, "columns")
    yield Case("GatherElements", f(64, 1000), (rng.integers(0, 64, (64, 1000)),))
    yield Case("GatherND", f(64, 64, 64), (rng.integers(0, 64, (500, 2)),))
    yield Case("ScatterND", f(1000, 64), (rows.reshape(-1, 1), f(128, 64)))
    yield Case(
        "ScatterND", f(1000, 64), (rows.reshape(-1, 1), f(128, 64)), {"reduction": "add"}, "add"
    )
    index = rng.integers(0, 1000, (2000, 64))
    yield Case("ScatterElements", f(1000, 64), (index, f(2000, 64)), {"reduction": "add"}, "add")
    yield Case("OneHot", rng.integers(0, 100, 1000), (i(100), np.array([0, 1], np.float32)))


def _sampling() -> Iterator[Case]:
    empty = np.empty(0, np.float32)

    def resize(note: str, x: Array, scale: float, **attributes: Any) -> Case:
        scales = np.array([1, 1, scale, scale], np.float32)
        return Case("Resize", x, (empty, scales), attributes, note)

    x = f(*MAP)
    yield resize("nearest 2", x, 2, mode="nearest", coordinate_transformation_mode="asymmetric")
    yield resize("linear 2", x, 2, mode="linear")
    yield resize("linear 0.5", x, 0.5, mode="linear")
    yield resize("linear 8, 21 channels", f(1, 21, 32, 32), 8, mode="linear")
    yield resize(
        "align corners", x, 2, mode="linear", coordinate_transformation_mode="align_corners"
    )
    yield resize("cubic 2", x, 2, mode="cubic")
    yield resize("antialias 0.5", f(1, 3, 224, 224), 0.5, mode="linear", antialias=1)
    yield resize("3 channels 1.5", f(1, 3, 224, 224), 1.5, mode="linear")
    grid = np.clip(f(1, 56, 56, 2) * 0.5, -1, 1)
    for mode in ("linear", "nearest", "cubic"):
        yield Case("GridSample", x, (grid,), {"mode": mode}, mode, 20)
    boxes = abs(f(50, 4)) * 10
    boxes[:, 2:] += boxes[:, :2] + 5
    sizes = {"output_height": 7, "output_width": 7, "sampling_ratio": 2}
    yield Case("RoiAlign", x, (boxes, np.zeros(50, np.int64)), sizes)


def _recurrent() -> Iterator[Case]:
    for op, gates in (("LSTM", 4), ("GRU", 3), ("RNN", 1)):
        w, r = f(1, gates * 128, 64) * 0.1, f(1, gates * 128, 128) * 0.1
        yield Case(op, f(50, 1, 64), (w, r), {"hidden_size": 128})
    both = (f(2, 512, 64) * 0.1, f(2, 512, 128) * 0.1)
    attributes = {"hidden_size": 128, "direction": "bidirectional"}
    yield Case("LSTM", f(50, 8, 64), both, attributes, "both ways, batch 8")


def _integers() -> Iterator[Case]:
    scale, zero = np.array(0.02, np.float32), np.array(128, np.uint8)
    q = rng.integers(0, 256, MAP).astype(np.uint8)
    yield Case("QuantizeLinear", f(*MAP), (scale, zero))
    yield Case("DequantizeLinear", q, (scale, zero))
    whole = rng.integers(-9, 9, MAP)
    yield Case("Add", whole, (whole[::-1].copy(),), note="int64")
    yield Case("ReduceSum", whole, (i(2, 3),), note="int64")


# ------------------------------------------------------------------------------------------------


def prepare(case: Case, folder: Path) -> tuple[Source, Path, Path]:
    """The model, its input and onnxruntime's output, as files."""
    import onnxruntime  # noqa: PLC0415

    folder.mkdir(parents=True, exist_ok=True)
    model, given, expected = folder / "model.onnx", folder / "x.npy", folder / "y.npy"
    onnx.save(case.model(), model)
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    np.save(given, case.x)
    np.save(expected, session.run(None, {"x": case.x})[0])
    return Source(model, None, case.x.shape), given, expected


def measure(
    case: Case, workers: dict[str, Worker], args: argparse.Namespace, folder: Path
) -> dict[str, Any]:
    """One row, as JSON."""
    row: dict[str, Any] = {"name": case.name, "threads": args.threads, "batch": 1, "engines": {}}
    try:
        source, given, expected = prepare(case, folder)
    except Exception as error:  # onnxruntime cannot; its errors have no common base
        return {**row, "failed": str(error).strip().splitlines()[0][:200]}
    entries = {name: Entry() for name in workers}
    for name, worker in workers.items():
        try:
            loaded = worker.ask("load", source=source, input=given, ref=expected)
            entries[name].error = loaded["error"]
        except WorkerError as error:
            entries[name].failed = str(error)
    for _ in range(args.rounds):
        for name, worker in workers.items():
            if not entries[name].failed:
                turn = worker.ask("turn", seconds=args.seconds / args.rounds)
                entries[name].turns.append(Turn(turn["min"] / 1e6, turn["median"] / 1e6))
    for name, e in entries.items():
        row["engines"][name] = (
            {"failed": e.failed}
            if e.failed
            else {
                "min_ms": e.min(None),
                "median_ms": e.median(None),
                "error": e.error,
                "rounds_ms": [t.min for t in e.turns],
            }
        )
    return row


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--operators", type=report.words, default=[""], help="parts of names")
    parser.add_argument("--engines", type=report.words, default=["cnnrt", "onnxruntime"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=0.3, help="per engine and row")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cliff", type=float, default=1.67)
    parser.add_argument("--cache", help="folder for the models")
    parser.add_argument("--out", type=Path, help="result file; default: in the cache folder")
    args = parser.parse_args()
    cache = machine.cache_folder(args.cache)
    out = args.out or report.default_out(cache, "operators")
    options = {k: getattr(args, k) for k in ("engines", "threads", "seconds", "rounds")}
    result = {**report.header(options), "rows": []}
    workers = {name: Worker(name, args.threads) for name in args.engines}
    print(f"{'operator':<40}" + "".join(f"{n:>14}" for n in workers) + "   ratio")
    cliffs, ratios = [], []
    for case in cases():
        if not any(text in case.name for text in args.operators):
            continue
        row = measure(case, workers, args, cache / "operators")
        result["rows"].append(row)
        times = {n: e.get("min_ms") for n, e in row["engines"].items()}
        cells = "".join(f"{report.milliseconds(t):>14}" for t in times.values())
        own, peer = times.get("cnnrt"), times.get("onnxruntime")
        ratio = peer / own if own and peer else None
        remark = row.get("failed", "")
        for name, e in row["engines"].items():
            remark += f" {name}: {e['failed']}" if "failed" in e else ""
            if e.get("error", 0) > 1e-4:
                remark += f" {name}: off by {e['error']:.1e}"
        ratios += [ratio] if ratio else []
        if ratio is not None and ratio * args.cliff < 1:
            cliffs.append(case.name)
            remark += "  <- cliff"
        print(f"{case.name:<40}{cells}   {report.number(ratio)} {remark}", flush=True)
    for worker in workers.values():
        worker.close()
    report.save(out, result)
    mean = report.number(report.geometric_mean(ratios))
    print(f"geometric mean of {len(ratios)} ratios: {mean}")
    print(f"written: {out}")
    if cliffs:
        sys.exit(f"{len(cliffs)} more than {args.cliff:g} times slower: {', '.join(cliffs)}")


if __name__ == "__main__":
    main()
