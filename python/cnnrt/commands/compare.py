"""`python -m cnnrt compare`: where a network's results part from those of another runtime."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from ..cost import ALGORITHMS
from ..errors import GraphError, ShapeError
from ..graph import Array
from ..images import SUFFIXES
from ..inspection import comparing
from ..model import Model
from ..preprocessing import Preprocessing
from .common import add_data, add_input, count, number, planned_shapes, read_data

HELP = "find the first node whose result differs from another runtime's"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Runs a model with cnnrt and with a reference, node by node, on the same input. Prints the "
        "first node that diverges and the error at each output. A tensor diverges where the "
        "largest difference exceeds ATOL + RTOL * the largest value. Exit status 0 if none "
        "diverges, else 1."
    )
    add = parser.add_argument
    add("model", help="an ONNX file; with --reference numpy also a model.bin")
    add(
        "--reference",
        choices=comparing.REFERENCES,
        default="onnxruntime",
        help="onnxruntime (default); torch: the program that the ONNX file was exported from, "
        "which torch.export.save wrote; numpy: cnnrt's own definitions of the operators",
    )
    add(
        "--program",
        metavar="FILE.pt2",
        help="for torch: the program (default: the model's name with .pt2). Give only files that "
        "you trust",
    )
    add_data(parser)
    add("--seed", type=int, default=0, metavar="N", help="of the random input (default: 0)")
    add_input(parser)
    add("--rtol", type=number, default=1e-4, metavar="X", help="(default: 1e-4)")
    add("--atol", type=number, default=1e-8, metavar="X", help="(default: 1e-8)")
    add("--algorithm", choices=ALGORITHMS, default="auto", help="of the 3x3 convolutions")
    add("--threads", type=count, metavar="N", help="threads to use (default: the cores there are)")
    add("--nodes", action="store_true", help="print the error at each node too")


def execute(options: argparse.Namespace) -> int:
    """Compares and prints; 1 if anything diverges.

    Raises:
        CnnrtError, OSError, ImportError: the model, the input or the reference cannot be used.
    """
    model, reference = comparing.load_pair(
        options.model,
        options.reference,
        options.program,
        threads=options.threads,
        algorithm=options.algorithm,
    )
    if options.data:
        inputs = read_data(model, options.data, _preprocessing(model, options.data))
        source = options.data
    else:
        inputs = _random_inputs(model, options)
        source = f"random, seed {options.seed}"
    for name, array in inputs.items():
        print(f"input {name}: {array.dtype}{list(array.shape)}, {source}")
    result = comparing.compare(model, reference, inputs, rtol=options.rtol, atol=options.atol)
    if options.nodes:
        for node, found in result.nodes:
            print(f"  {found.tensor} ({node.op}): {found}")
    compared = len({node.name for node, _ in result.nodes})
    print(f"compared {compared} of {len(model.graph.nodes)} nodes with {options.reference}")
    if result.first:
        node, found = result.first
        layer = comparing.layers(options.model).get(found.tensor)
        of_layer = f" of layer {layer!r}" if layer else ""
        when = ", where it is fused with others" if result.fused else ""
        print(f"first to diverge: {node.op} {node.name!r}{of_layer}{when}")
        print(f"  tensor {found.tensor!r}: {found}")
    elif not result.diverges:
        print("no node diverges")
    for found in result.outputs:
        print(f"output {found.tensor}: {found}")
    return int(result.diverges)


def _random_inputs(model: Model, options: argparse.Namespace) -> dict[str, Array]:
    """Normal numbers, or zeros and ones for integers and truth values."""
    shapes, unknown = planned_shapes(model.inputs, options.input)
    if unknown:
        raise ShapeError(f"the sizes {', '.join(unknown)} are free; give --input or --data")
    generator = np.random.default_rng(options.seed)
    inputs = {}
    for spec in model.inputs:
        shape = shapes[spec.name]
        if spec.dtype.kind == "f":
            inputs[spec.name] = generator.standard_normal(shape).astype(spec.dtype)
        else:
            inputs[spec.name] = generator.integers(0, 2, shape).astype(spec.dtype)
    return inputs


def _preprocessing(model: Model, path: str) -> Preprocessing | None:
    """The model's, or for want of it one that scales an image's values to 0 to 1; None: the file is
    no image.

    Raises:
        GraphError: its input is no image of fixed size.
    """
    if Path(path).suffix.lower() not in SUFFIXES:
        return None
    if model.preprocessing is not None:
        return model.preprocessing
    shape = model.inputs[0].shape
    channels = {1: "L", 3: "RGB"}.get(shape[1] if len(shape) == 4 else 0)  # type: ignore[arg-type]
    size = shape[2:]
    if len(model.inputs) != 1 or channels is None or any(isinstance(n, str) for n in size):
        raise GraphError("the model does not take one image of a fixed size; give an .npz file")
    return Preprocessing(size=size, channels=channels, scale=1 / 255)  # type: ignore[arg-type]
