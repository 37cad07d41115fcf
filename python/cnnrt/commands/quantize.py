"""`python -m cnnrt quantize`: a network in 8 bits, calibrated on photos."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..model import load
from ..quantization.quantizer import TARGET_DB, post_training
from ..quantization.ranges import METHODS
from .common import count, list_of, number, print_json

HELP = "write a network in 8 bits, calibrated on photos"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Writes a network whose convolutions and linear layers run in 8-bit integers. Scales "
        "follow from the photos, of which every fourth is held back to check the result. Layers "
        "stay in float32 where the target asks for it. The file holds ONNX's QuantizeLinear and "
        "DequantizeLinear; one that ends in .onnx is run by other runtimes too."
    )
    add = parser.add_argument
    add("model", help="model.bin or an ONNX file")
    add("images", nargs="+", help="photos or folders of them; 20 to 100 are good")
    add("-o", "--output", required=True, metavar="FILE", help="the model.bin or .onnx to write")
    target = parser.add_mutually_exclusive_group().add_argument
    target(
        "--target-db",
        type=number,
        metavar="DB",
        help=f"signal to noise of the outputs to keep (default: {TARGET_DB:g})",
    )
    target(
        "--keep-answers",
        type=_share,
        metavar="SHARE",
        help="share of the photos whose likeliest class is to stay, such as 0.99",
    )
    add("--method", choices=tuple(METHODS), default="mse", help="how ranges are found")
    add(
        "--exclude",
        type=list_of(str),
        default=[],
        metavar="NAMES",
        help="nodes that stay in float32, with commas",
    )
    add(
        "--round-residual",
        action="store_true",
        help="also round before residual additions, which other runtimes need to add integers",
    )
    add("--report", metavar="FILE", help="write a report, as .html or .json")
    add("--json", action="store_true", help="print JSON")
    add("--threads", type=count, metavar="N", help="threads to use (default: the cores there are)")


def execute(options: argparse.Namespace) -> int:
    found = post_training(
        load(options.model, threads=options.threads),
        options.images,
        method=options.method,
        target_db=options.target_db,
        keep_answers=options.keep_answers,
        exclude=options.exclude,
        round_residual=options.round_residual,
    )
    found.save(options.output)
    if options.report:
        found.report(options.report)
    if options.json:
        print_json(found.to_json())
    else:
        print(found)
        for name in filter(None, (options.output, options.report)):
            print(f"wrote {name}: {Path(name).stat().st_size:,} bytes")
    return 0


def _share(text: str) -> float:
    value = number(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not from 0 to 1")
    return value
