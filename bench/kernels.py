"""Single layers of real networks: how close cnnrt's kernels come to the machine, and to its peers.

    python bench/kernels.py [--layers TEXT,...] [--threads 1,2] [--engines onnxruntime,openvino]
                            [--seconds S] [--rounds R] [--list] [--out kernels.json]

A layer is an ONNX model of one operator. For cnnrt the table has the kernel alone, without the
reordering of plain arrays, which a network does once at its ends. Each algorithm that fits is given
as a fraction of the FMA peak and of the memory bandwidth that machine.py measures here and now.
GFLOP/s count the operations of the direct algorithm, so Winograd may pass the peak. The comparison
with other engines is of whole calls, with the reordering.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import machine
import numpy as np
import report
from engines import ENGINES, Array, Source
from numpy.lib.stride_tricks import sliding_window_view
from race import Race, race

from cnnrt.analysis.peak import measure_peak
from cnnrt.lowering.conv import algorithms
from cnnrt.process.isa import default_isa

OUTSIDE = {"reorder"}
"""Kernels of a single-operator plan that are not the operator."""


@dataclass(frozen=True)
class Layer:
    """One operator on one image of c channels of `size` pixels (rows of c numbers if linear)."""

    group: str
    op: str
    c: int
    m: int
    size: tuple[int, ...]
    kernel: tuple[int, ...] = (1, 1)
    stride: int = 1
    groups: int = 1
    dilation: int = 1

    @property
    def name(self) -> str:
        """The layer in one word; `--layers` selects by parts of it."""
        if self.op == "linear":
            return f"{self.group}/linear-{self.size[0]}x{self.c}x{self.m}"
        if self.op == "global_pool":
            return f"{self.group}/globalpool-{self.c}@{self.size[0]}"
        kind = "maxpool" if self.op == "max_pool" else "conv"
        if self.groups > 1:
            kind = "depthwise" if self.groups == self.c else f"{self.groups}-group-conv"
        channels = f"{self.c}-{self.m}" if self.c != self.m else f"{self.c}"
        stride = f"s{self.stride}" if self.stride > 1 else ""
        kernel = "x".join(map(str, self.kernel))
        dilation = f"d{self.dilation}" if self.dilation > 1 else ""
        return f"{self.group}/{kind}{kernel}-{channels}@{self.size[0]}{stride}{dilation}"

    @property
    def pads(self) -> list[int]:
        """Padding of each axis, before and after it."""
        return [(k - 1) // 2 * self.dilation for k in self.kernel]

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (*self.size, self.c) if self.op == "linear" else (1, self.c, *self.size)

    @property
    def output_shape(self) -> tuple[int, ...]:
        if self.op == "linear":
            return (*self.size, self.m)
        if self.op == "global_pool":
            return (1, self.m, 1, 1)
        reach = [(k - 1) * self.dilation for k in self.kernel]
        axes = zip(self.size, reach, self.pads, strict=True)
        return (1, self.m, *((n + 2 * p - r - 1) // self.stride + 1 for n, r, p in axes))

    @property
    def weight_shape(self) -> tuple[int, ...] | None:
        if self.op == "linear":
            return (self.m, self.c)
        if self.op == "conv":
            return (self.m, self.c // self.groups, *self.kernel)
        return None

    @property
    def flops(self) -> float:
        """Operations of the direct algorithm: two per multiply-add; none for pools."""
        if self.weight_shape is None:
            return 0.0
        return 2.0 * math.prod(self.output_shape) * math.prod(self.weight_shape[1:])

    @property
    def bytes(self) -> float:
        """Bytes of input, weights and output, each once."""
        sizes = [self.input_shape, self.output_shape, self.weight_shape or (0,)]
        return 4.0 * sum(math.prod(s) for s in sizes)

    @property
    def algorithms(self) -> list[str]:
        """Algorithms that cnnrt can be told to use for it, beside its own choice."""
        if self.op != "conv" or self.groups > 1:
            return []
        axes = len(self.kernel)
        ways = algorithms(self.kernel, [self.stride] * axes, [self.dilation] * axes)
        return list(ways) if len(ways) > 1 else []


def _conv(
    group: str, c: int, m: int, size: int, kernel: int = 1, stride: int = 1, groups: int = 1
) -> Layer:
    return Layer(group, "conv", c, m, (size, size), (kernel, kernel), stride, groups)


LAYERS = [
    *(_conv("resnet", c, c, s, 3) for c, s in [(64, 56), (128, 28), (256, 14), (512, 7)]),
    *(_conv("resnet", c, 2 * c, s, 3, 2) for c, s in [(64, 56), (128, 28), (256, 14)]),
    *(
        _conv("vgg", c, c, s, 3)
        for c, s in [(64, 224), (128, 112), (256, 56), (512, 28), (512, 14)]
    ),
    *(_conv("resnet50", c, 4 * c, s) for c, s in [(64, 56), (128, 28), (256, 14), (512, 7)]),
    *(_conv("resnet50", 4 * c, c, s) for c, s in [(64, 56), (128, 28), (256, 14), (512, 7)]),
    _conv("resnet50", 256, 512, 56, stride=2),
    *(
        _conv("mobilenet_v2", c, m, s)
        for c, m, s in [(16, 96, 112), (24, 144, 56), (144, 24, 56), (192, 64, 28), (384, 64, 14)]
    ),
    *(_conv("mobilenet_v2", c, m, s) for c, m, s in [(96, 576, 14), (960, 160, 7), (320, 1280, 7)]),
    *(
        _conv("half", c, m, s)
        for c, m, s in [(96, 24, 56), (16, 24, 56), (120, 40, 28), (104, 104, 28), (64, 72, 28)]
    ),
    *(
        _conv("mobilenet_v2", c, c, s, 3, stride, c)
        for c, s, stride in [
            (32, 112, 1),
            (96, 112, 2),
            (144, 56, 1),
            (192, 28, 1),
            (384, 14, 1),
            (960, 7, 1),
        ]
    ),
    *(
        _conv("efficientnet_b0", c, c, s, 5, stride, c)
        for c, s, stride in [(144, 56, 2), (240, 28, 1), (672, 14, 1), (1152, 7, 1)]
    ),
    *(_conv("convnext", c, c, s, 7, 1, c) for c, s in [(96, 56), (192, 28), (384, 14), (768, 7)]),
    _conv("replknet", 128, 128, 56, 31, 1, 128),
    *(
        _conv("regnet", c, c, s, 3, 1, c // 8)
        for c, s in [(48, 56), (104, 28), (208, 14), (440, 7)]
    ),
    _conv("resnext50", 128, 128, 56, 3, 1, 32),
    _conv("first/resnet", 3, 64, 224, 7, 2),
    _conv("first/vgg", 3, 64, 224, 3),
    _conv("first/mobilenet_v2", 3, 32, 224, 3, 2),
    _conv("first/lenet5", 1, 6, 28, 5),
    _conv("inception", 64, 96, 35, 5),
    Layer("inception", "conv", 384, 384, (8, 8), (1, 3)),
    Layer("inception", "conv", 384, 384, (8, 8), (3, 1)),
    Layer("erfnet", "conv", 64, 64, (64, 128), (3, 1)),
    Layer("erfnet", "conv", 64, 64, (64, 128), (1, 3)),
    *(
        Layer("deeplab", "conv", c, 256, (68, 120), (3, 3), dilation=d)
        for c, d in [(256, 2), (960, 12), (960, 24), (960, 36)]
    ),
    Layer("fcn", "conv", 512, 512, (60, 60), (3, 3), dilation=4),
    *(
        Layer("1d", "conv", c, c, (n,), (3,))
        for c, n in [(32, 4096), (64, 1024), (64, 4096), (128, 1024), (256, 256), (512, 64)]
    ),
    Layer("vgg", "linear", 4096, 4096, (1,)),
    Layer("vgg", "linear", 25088, 4096, (1,)),
    Layer("resnet50", "linear", 2048, 1000, (1,)),
    Layer("vit", "linear", 768, 3072, (197,)),
    Layer("vit", "linear", 3072, 768, (197,)),
    Layer("vit", "linear", 768, 768, (197,)),
    Layer("resnet", "max_pool", 64, 64, (112, 112), (3, 3), 2),
    Layer("vgg", "max_pool", 64, 64, (224, 224), (2, 2), 2),
    Layer("googlenet", "max_pool", 480, 480, (14, 14), (3, 3)),
    Layer("resnet50", "global_pool", 2048, 2048, (7, 7)),
]
"""Layers of the networks, by the code that they exercise."""


# ------------------------------------------------------------------------------------------------
# A layer as an ONNX file, with an input and the expected output


def prepare(layer: Layer, cache: Path) -> tuple[Source, Path, Path]:
    """The model, its input and its reference, made if they are not there yet."""
    key = hashlib.sha256(json.dumps(asdict(layer)).encode()).hexdigest()[:8]
    folder = cache / "layers" / f"{layer.name.replace('/', '_')}-{key}"
    paths = [folder / name for name in ("model.onnx", "input.npy", "reference.npy")]
    if not paths[2].exists():
        folder.mkdir(parents=True, exist_ok=True)
        random = np.random.default_rng(0)
        x = random.standard_normal(layer.input_shape, np.float32)
        weights: list[Array] = []
        if layer.weight_shape:
            w = random.standard_normal(layer.weight_shape, np.float32)
            weights = [w / np.float32(math.sqrt(math.prod(layer.weight_shape[1:])))]
            weights.append(random.standard_normal(layer.m, np.float32))
        paths[0].write_bytes(to_onnx(layer, weights))
        np.save(paths[1], x)
        np.save(paths[2], reference(layer, x, weights))
    return Source(paths[0], None, layer.input_shape), paths[1], paths[2]


def to_onnx(layer: Layer, weights: list[Array]) -> bytes:
    """A model of one operator."""
    import onnx  # noqa: PLC0415
    from onnx import TensorProto, helper, numpy_helper  # noqa: PLC0415

    windows: dict[str, Any] = {
        "kernel_shape": layer.kernel,
        "strides": [layer.stride] * len(layer.kernel),
        "pads": layer.pads * 2,
        "dilations": [layer.dilation] * len(layer.kernel),
    }
    kinds: dict[str, tuple[str, dict[str, Any]]] = {
        "conv": ("Conv", {**windows, "group": layer.groups}),
        "linear": ("Gemm", {"transB": 1}),
        "max_pool": ("MaxPool", windows),
        "global_pool": ("GlobalAveragePool", {}),
    }
    kind, attributes = kinds[layer.op]
    names = ["weight", "bias"][: len(weights)]
    graph = helper.make_graph(
        [helper.make_node(kind, ["input", *names], ["output"], name="layer", **attributes)],
        "layer",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, layer.input_shape)],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, layer.output_shape)],
        [numpy_helper.from_array(w, n) for w, n in zip(weights, names, strict=True)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


def reference(layer: Layer, x: Array, weights: list[Array]) -> Array:
    """The expected output, in float64."""
    x = x.astype(np.float64)
    if layer.op == "linear":
        return np.asarray(x @ weights[0].T.astype(np.float64) + weights[1])
    if layer.op == "global_pool":
        return np.asarray(x.mean((2, 3), keepdims=True))
    border = -np.inf if layer.op == "max_pool" else 0.0
    pads = [(0, 0), *((p, p) for p in layer.pads)]
    axes = tuple(range(1, 1 + len(layer.kernel)))
    reach = tuple((k - 1) * layer.dilation + 1 for k in layer.kernel)
    patches = sliding_window_view(np.pad(x[0], pads, constant_values=border), reach, axes)
    steps = [slice(None, None, n) for n in (layer.stride, layer.dilation) for _ in axes]
    patches = patches[(slice(None), *steps)]
    if layer.op == "max_pool":
        return np.asarray(patches.max(tuple(-a for a in axes))[None])
    sizes = patches.shape[1 : 1 + len(axes)]
    y = np.zeros((layer.groups, layer.m // layer.groups, math.prod(sizes)))
    per = layer.c // layer.groups
    filters = weights[0].astype(np.float64).reshape(layer.groups, -1, per, *layer.kernel)
    for tap in np.ndindex(layer.kernel):  # one at a time keeps the memory small
        pixels = np.ascontiguousarray(patches[(..., *tap)]).reshape(layer.groups, per, -1)
        y += filters[(..., *tap)] @ pixels
    return np.asarray(y.reshape(1, layer.m, *sizes) + weights[1].reshape(-1, *[1] * len(axes)))


# ------------------------------------------------------------------------------------------------
# Measuring and printing


def measure(
    layer: Layer, threads: int, args: argparse.Namespace, cache: Path, bandwidths: dict[str, float]
) -> dict[str, Any]:
    """The rows of one layer: measured, printed, and as JSON."""
    # The clock changes with time and load: the peak is measured beside the layer.
    peak = peak_of_tier(threads)
    row: dict[str, Any] = {"name": layer.name, "threads": threads, "batch": 1}
    own = ["cnnrt", *(f"cnnrt:{a}" for a in layer.algorithms)]
    source, inputs, expected = prepare(layer, cache)
    done = race(
        own + args.engines,
        source,
        threads,
        inputs,
        expected,
        seconds=args.seconds,
        rounds=args.rounds,
        barrier=report.measure_barrier(cache),
        patience=args.patience,
        steps=own,
    )
    peak = max(peak, peak_of_tier(threads))
    ratios = report.ratios(done)
    result = {
        **row,
        "flops": layer.flops,
        "bytes": layer.bytes,
        "peak": peak,
        **done.json(),
        **ratios,
    }
    for name in own:
        if done.entries[name].steps:
            result["engines"][name].update(speed(layer, done.entries[name].steps, peak, bandwidths))
    print_rows(layer, threads, done, result)
    return result


def speed(
    layer: Layer, steps: list[tuple[str, int]], peak: float, bandwidths: dict[str, float]
) -> dict[str, float]:
    """Time of the kernel, and how much of the machine it uses."""
    inside = [t for kernel, t in steps if kernel not in OUTSIDE]
    ns = max(1, sum(inside or (t for _, t in steps)))
    gflops, gbytes = layer.flops / ns, layer.bytes / ns
    # Runs follow each other, so the data are where they fit.
    level = next((k for k in ("l2", "l3") if layer.bytes <= machine.LEVELS[k] * 2), "dram")
    bandwidth = bandwidths[level]
    bound = max(layer.flops / peak, layer.bytes / bandwidth)
    return {
        "kernel_us": ns / 1e3,
        "gflops": gflops,
        "of_peak": gflops / peak,
        "of_bandwidth": gbytes / bandwidth,
        "of_roofline": bound / ns,
    }


def peak_of_tier(threads: int) -> float:
    """The FMA peak now, in GFLOP/s, of the tier that cnnrt uses."""
    return measure_peak(default_isa(), threads)


def print_rows(layer: Layer, threads: int, done: Race, result: dict[str, Any]) -> None:
    """A line per engine and algorithm."""
    state = done.state
    for name, entry in done.entries.items():
        start = f"{layer.name:<38} {threads:>3} {name:<16}"
        if entry.failed:
            print(f"{start} - {entry.failed}")
            continue
        r = result["engines"][name]
        call = (entry.min(state) or 0) * 1e3
        kernel = "".join(
            [
                f"{r['kernel_us']:>10.1f}",
                f"{r['gflops']:>9.1f}",
                f"{r['of_peak']:>7.0%}",
                f"{r['of_bandwidth']:>8.0%}",
                f"{r['of_roofline']:>8.0%}",
            ]
            if "kernel_us" in r
            else [" " * 42]
        )
        ratio = report.number(result["ratio"]) if name == "cnnrt" else ""
        barrier = report.barrier_text(done.barriers()) if name == "cnnrt" else ""
        print(
            f"{start}{kernel} {call:>10.1f}  {entry.error:.0e} {ratio:>6}  {barrier}".rstrip(),
            flush=True,
        )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--layers", type=report.words, default=[], help="parts of names, with commas"
    )
    parser.add_argument(
        "--engines", type=report.words, default=[], help="peers, such as onnxruntime"
    )
    parser.add_argument("--threads", type=report.numbers, default=[1])
    parser.add_argument("--seconds", type=float, default=0.5, help="per engine and layer")
    parser.add_argument("--rounds", type=int, default=4, help="turns into which they are split")
    parser.add_argument(
        "--patience",
        type=float,
        default=0,
        metavar="SECONDS",
        help="per row, to wait for other programs to be quiet before a round",
    )
    parser.add_argument("--cache", help="folder for models and compiled code")
    parser.add_argument("--list", action="store_true", help="prints the layers' names")
    parser.add_argument("--out", type=Path, help="result file; default: in the cache folder")
    args = parser.parse_args()
    layers = [x for x in LAYERS if not args.layers or any(t in x.name for t in args.layers)]
    if args.list:
        print("\n".join(layer.name for layer in layers))
        return
    for name in args.engines:
        if name.partition(":")[0] not in ENGINES:
            parser.error(f"unknown engine {name!r}; known: {', '.join(ENGINES)}")
    cache = machine.cache_folder(args.cache)
    out = args.out or report.default_out(cache, "kernels")
    try:
        limits = machine.limits(cache, args.threads)
    except RuntimeError as error:
        parser.exit(1, f"{error}\n")
    result = report.header({k: getattr(args, k) for k in ("engines", "seconds", "rounds")})
    result.update(limits=limits, rows=[])
    for threads, found in limits["threads"].items():
        print(f"threads {threads}: GFLOP/s {found['gflops']}, GB/s {found['gbytes_per_s']}")
    print(
        f"{'layer':<38} thr {'engine':<16} {'kernel us':>9}  GFLOP/s  peak  memory roofline"
        "    call us  error  ratio  barrier ns"
    )
    for layer in layers:
        for threads in args.threads:
            bandwidths = limits["threads"][str(threads)]["gbytes_per_s"]
            row = measure(layer, threads, args, cache, bandwidths)
            result["rows"].append(row)
            report.save(out, result)
    mean = report.geometric_mean(r["ratio"] for r in result["rows"] if r["ratio"])
    if mean:
        print(f"geometric mean best peer / cnnrt (whole calls): {mean:.2f}")
    print(f"written: {out}")


if __name__ == "__main__":
    main()
