"""The error of each algorithm of a convolution of 3x3, 3 or 5x5 taps, against float64.

3x3 taps have stride 1 and 2. A first layer of 7x7 taps has "auto" beside the direct sum.

    python bench/winograd_error.py [--isa avx512]

Inputs are as after a ReLU, weights have He's variance. Errors are the largest difference over the
largest output, and the same of root mean squares. The last tables have inputs of mean zero, as
after a normalisation.
"""

from __future__ import annotations

import argparse
import itertools
import math

import numpy as np

from cnnrt import kernels, ops
from cnnrt.graph import Node
from cnnrt.lowering.conv import algorithms

ALGORITHMS = {
    (taps, stride): algorithms(taps, [stride] * len(taps), [1] * len(taps))
    for taps, stride in (((3, 3), 1), ((3, 3), 2), ((3,), 1), ((5, 5), 1))
}
FIRST_LAYER = {((7, 7), 2): ("im2col", "auto")}


def errors(
    taps: tuple[int, ...],
    stride: int,
    channels: int,
    shape: tuple[int, ...],
    isa: str | None,
    *,
    relu: bool,
) -> dict[str, tuple[float, float]]:
    """Largest and root-mean-square error of each algorithm, relative to those of the output."""
    rng = np.random.default_rng(channels)
    x = rng.standard_normal((1, channels, *shape), dtype=np.float32)
    x = np.maximum(x, 0) if relu else x
    weight = rng.standard_normal((64, channels, *taps), dtype=np.float32)
    weight *= np.float32((2 / (math.prod(taps) * channels)) ** 0.5)
    pad = taps[0] // 2
    windows = {"pads": [pad, pad] * len(shape), "strides": [stride] * len(shape)}
    node = Node("conv", "conv", ["x", "weight"], ["y"], windows)
    ops.complete(node)
    (want,) = ops.op(node).reference(node, x.astype(np.float64), weight.astype(np.float64))
    table = {}
    for algorithm in (ALGORITHMS | FIRST_LAYER)[taps, stride]:
        got = kernels.conv2d(x, weight, None, stride, pad, algorithm=algorithm, isa=isa)
        difference = got - want
        table[algorithm] = (
            float(np.abs(difference).max() / np.abs(want).max()),
            float(np.sqrt((difference**2).mean() / (want**2).mean())),
        )
    return table


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--isa", help="instruction-set tier; default: the best")
    args = parser.parse_args()
    first = errors((7, 7), 2, 3, (224, 224), args.isa, relu=False)
    print("first layer, 7x7 taps, stride 2, 3 channels, inputs of mean zero: largest error (rms)")
    print("  ".join(f"{a} {most:.1e} ({rms:.1e})" for a, (most, rms) in first.items()))
    for relu, ((taps, stride), ways) in itertools.product((True, False), ALGORITHMS.items()):
        inputs = "after a ReLU" if relu else "of mean zero"
        kernel = "x".join(map(str, taps))
        print(f"{kernel} taps, stride {stride}, inputs {inputs}: largest error (rms)")
        print(f"{'channels':>8} " + "".join(f"{a:>22}" for a in ways))
        for channels, size in ((64, 28), (128, 28), (256, 14), (512, 14)):
            shape = (size, size) if len(taps) == 2 else (size * size,)
            row = errors(taps, stride, channels, shape, args.isa, relu=relu)
            cells = (f"{row[a][0]:.1e} ({row[a][1]:.1e})" for a in ways)
            print(f"{channels:>8} " + "".join(f"{cell:>22}" for cell in cells))


if __name__ == "__main__":
    main()
