"""`python -m cnnrt profile`: where the time of a run goes."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .. import pages
from ..analysis.profiling import Profile
from ..errors import GraphError
from ..model import Model, load
from .common import add_input, count, input_shapes, print_json, seconds

HELP = "show where the time of a network goes, layer by layer"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Prints each layer's time with the algorithm chosen, its GFLOP/s (two for each "
        "multiply-accumulate of the direct method) and their part of what the machine does at "
        "most; in order, and the slowest again."
    )
    add = parser.add_argument
    add("model", help="model.bin or an ONNX file")
    add("image", nargs="?", help="an image to run on (default: random numbers)")
    add_input(parser)
    add("--threads", type=count, metavar="N", help="threads to use (default: the cores there are)")
    add("--seconds", type=seconds, default=1.0, metavar="S", help="how long (default: 1)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--html", metavar="FILE", help="write a page instead")
    form.add_argument(
        "--trace",
        metavar="FILE",
        help="write one run in Chrome's trace format, for ui.perfetto.dev: a track per thread",
    )


def execute(options: argparse.Namespace) -> int:
    model = load(options.model, threads=options.threads)
    profile = model.profile(_input(model, options), seconds=options.seconds)
    if options.json:
        print_json(profile.to_json())
    elif options.html:
        _write_page(options.html, Path(options.model).name, profile)
        print(f"wrote {options.html}")
    elif options.trace:
        profile.save_trace(options.trace)
        print(f"wrote {options.trace}: {len(profile.events)} events")
    else:
        print(profile)
    return 0


def _write_page(path: str, name: str, profile: Profile) -> None:
    families = {layer.operator: pages.family(layer.operator) for layer in profile.layers}
    totals: dict[str, float] = {}
    for layer in profile.layers:
        family = families[layer.operator]
        totals[family] = totals.get(family, 0.0) + layer.share
    pages.write(
        path,
        "profile.html",
        title=f"{name}: where the time goes",
        profile=profile,
        families=families,
        totals=sorted(totals.items(), key=lambda item: -item[1]),
        largest=max(layer.share for layer in profile.layers) or 1,
    )


def _input(model: Model, options: argparse.Namespace) -> Any:
    """The image as the network takes it, or the shapes of --input."""
    if options.image is None:
        return input_shapes(options.input, model)
    if model.preprocessing is None:
        raise GraphError(
            "this model does not say how an image becomes its input; leave the image out, or see "
            "`python -m cnnrt convert --help`"
        )
    return model.preprocessing(options.image)
