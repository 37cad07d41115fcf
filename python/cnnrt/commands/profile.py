"""`python -m cnnrt profile`: where the time of a run goes."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .. import pages
from ..analysis.profiling import Profile
from ..model import Model, load
from ..process.extras import require
from .common import add_data, add_input, count, input_shapes, print_json, read_data, seconds

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
    add_data(parser)
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
    if options.html:
        require("--html", "jinja2")
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
    """The image or the values as the network takes them, or the shapes of --input."""
    path = options.image or options.data
    if path is None:
        return input_shapes(options.input, model)
    found = {model.inputs[0].name: model.input_from(path)} if options.image else None
    return found or read_data(model, path, None)
