"""The networks of networks.py in float16, beside the same in float32.

    python bench/half.py [--networks a,b] [--threads 1] [--seconds S] [--cache DIR] [--out FILE]

Each is converted by onnxconverter-common twice: with inputs and outputs that stay float32 ("kept"),
and with all in float16. The three files are loaded by one process and run in turns. Times are the
shortest in ms, those of float16 as parts of that of float32. On one thread they are CPU time. File
and memory are parts of those of float32 too. Memory has the stored weights, the packed ones and the
activations. `rounding` is the error of the float32 file with its weights rounded to float16, below
which the others cannot be. Errors are relative to the largest absolute output of the float32 file.
"""

from __future__ import annotations

import argparse
import gc
import time
from pathlib import Path
from typing import Any

import numpy as np
import report
from machine import cache_folder

import cnnrt
import networks

FORMS = ("kept", "float16")
"""The conversions: float32 at the border, and float16 everywhere."""

TURN_MS = 2.0
"""Milliseconds of a turn at least: clocks of CPU time are coarse."""


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", type=report.words, default=list(networks.NETWORKS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=3.0, help="per network")
    parser.add_argument("--cache", help="folder for exported networks")
    parser.add_argument("--out", type=Path, help="result file; default: in the cache folder")
    args = parser.parse_args()
    for name in args.networks:
        if name not in networks.NETWORKS:
            parser.error(f"unknown network {name!r}; known: {', '.join(networks.NETWORKS)}")
    cache = cache_folder(args.cache)
    out = args.out or report.default_out(cache, "half")
    result = report.header({k: getattr(args, k) for k in ("threads", "seconds")})
    result["rows"] = []
    print("| network | float32, ms | kept | float16 | file | memory | error | rounding |")
    print("|---|---|---|---|---|---|---|---|")
    for name in args.networks:
        # In a process of its own, so that PyTorch is not in this one.
        if failed := report.run_tool("networks.py", name, "--cache", str(cache)):
            report.note(f"{name}: cannot be prepared: {failed}")
            continue
        row = measure(name, networks.prepare(name, 1, cache), args.threads, args.seconds)
        result["rows"].append(row)
        report.save(out, result)
        print(line(row), flush=True)
    for form in FORMS:
        mean = report.geometric_mean(row[form]["ratio"] for row in result["rows"])
        print(f"{form}: geometric mean of the ratios {report.number(mean)}")


def measure(name: str, files: networks.Prepared, threads: int, seconds: float) -> dict[str, Any]:
    """The row of a network."""
    paths = {"float32": files.onnx} | {form: converted(files.onnx, form) for form in FORMS}
    x = np.load(files.input)
    models = {form: cnnrt.load(path, threads=threads) for form, path in paths.items()}
    inputs = {form: x.astype(m.inputs[0].dtype.numpy) for form, m in models.items()}
    exact = models["float32"](x)
    outputs = {form: m(inputs[form]) for form, m in models.items()}
    clock = time.process_time_ns if threads == 1 else time.perf_counter_ns
    began = time.perf_counter()
    models["float32"](x)
    runs = 1 + int(TURN_MS / 1e3 / (time.perf_counter() - began))
    shortest = dict.fromkeys(models, float("inf"))
    gc.disable()
    end, forms = time.perf_counter() + seconds, list(models)
    while time.perf_counter() < end:
        for form in forms:
            start = clock()
            for _ in range(runs):
                models[form](inputs[form])
            shortest[form] = min(shortest[form], (clock() - start) / runs / 1e6)
        forms.append(forms.pop(0))
    gc.enable()
    row: dict[str, Any] = {"name": name, "float32": {"ms": shortest["float32"]}}
    for form, path in paths.items():
        memory = models[form].memory()
        row.setdefault(form, {}).update(
            ms=shortest[form],
            ratio=shortest[form] / shortest["float32"],
            file=path.stat().st_size,
            memory=memory.stored + memory.packed + memory.activations,
            error=distance(outputs[form], exact),
        )
    row["rounding"] = distance(cnnrt.load(rounded(files.onnx), threads=threads)(x), exact)
    return row


def distance(y: Any, exact: Any) -> float:
    """The largest difference, relative to the largest absolute value of `exact`."""
    return float(np.abs(y.astype(np.float64) - exact).max() / np.abs(exact).max())


def converted(source: Path, form: str) -> Path:
    """The file in float16, made if it is not there yet."""
    path = source.with_name(f"{source.stem}_{form}.onnx")
    if not path.exists():
        import onnx  # noqa: PLC0415
        from onnxconverter_common.float16 import convert_float_to_float16  # noqa: PLC0415

        # Small weights become denormal or zero, as a conversion by default has it.
        model = convert_float_to_float16(
            onnx.load(str(source)), min_positive_val=0.0, keep_io_types=form == "kept"
        )
        part = path.with_suffix(".part")
        onnx.save(model, str(part))
        part.rename(path)
    return path


def rounded(source: Path) -> Path:
    """The float32 file with its weights rounded to float16."""
    path = source.with_name(f"{source.stem}_rounded.onnx")
    if not path.exists():
        import onnx  # noqa: PLC0415

        model = onnx.load(str(source))
        for tensor in model.graph.initializer:
            if tensor.data_type == onnx.TensorProto.FLOAT:
                value = onnx.numpy_helper.to_array(tensor).astype(np.float16).astype(np.float32)
                tensor.CopyFrom(onnx.numpy_helper.from_array(value, tensor.name))
        onnx.save(model, str(path))
    return path


def line(row: dict[str, Any]) -> str:
    """A line of the table."""
    float32, (kept, half) = row["float32"], (row[form] for form in FORMS)
    cells = [
        row["name"],
        report.number(float32["ms"]),
        f"{kept['ratio']:.3f}",
        f"{half['ratio']:.3f}",
        f"{half['file'] / float32['file']:.2f}",
        f"{half['memory'] / float32['memory']:.2f}",
        f"{kept['error']:.0e}, {half['error']:.0e}",
        f"{row['rounding']:.0e}",
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
