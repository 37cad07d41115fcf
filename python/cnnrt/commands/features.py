"""`python -m cnnrt features`: pictures of each layer's answers to a photograph."""

from __future__ import annotations

import argparse
import itertools
import re
from pathlib import Path
from typing import Any

from PIL.Image import Image

from .. import pages
from ..errors import GraphError
from ..inspection import pictures
from ..inspection.activation_maps import METHODS, activation_map
from ..model import Model, load
from ..process.extras import require
from ..storage.files import atomic_write
from .common import count

HELP = "show what each layer sees in an image, and what the answer comes from"

STAGES = [
    ("Edges and colours", "Lines of one direction, spots of one colour, light against dark."),
    ("Textures", "What lines and colours make together: fur, grids, stripes, corners and arcs."),
    ("Parts", "Answers to pieces of things, such as eyes, wheels or petals, wherever they are."),
]
"""Features found at the beginning, in the middle and at the end of a network trained on
photographs. Sources: Zeiler and Fergus, 2014; Olah et al., Feature Visualization, 2017."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Writes pictures, and an HTML page with all of them: the filters of the first layer, the "
        "feature maps of other layers, and which part of the image speaks for the class (class "
        "activation mapping for networks that end in global average pooling and a linear layer, "
        "otherwise occlusion)."
    )
    add = parser.add_argument
    add("model", help="model.bin or an ONNX file")
    add("image", help="the photograph")
    add("--out", required=True, metavar="DIR", help="the folder to write to")
    add("--layers", metavar="A,B", help="their names (default: one for each size)")
    add("--channels", type=_channels, default=pictures.CHANNELS, metavar="N", help=_CHANNELS_HELP)
    add("--label", help="the class to explain (default: the likeliest)")
    add("--method", choices=METHODS, default="auto", help="how to explain it (default: auto)")
    add("--threads", type=count, metavar="N", help="threads to use (default: the cores there are)")


_CHANNELS_HELP = f"channels of a layer, those that vary most (default: {pictures.CHANNELS}), or all"


def execute(options: argparse.Namespace) -> int:
    require("a page", "jinja2")
    model = load(options.model, threads=options.threads)
    photo = pictures.photograph(options.image)
    x = model.input_from(options.image)
    assert model.preprocessing is not None
    view = pictures.network_view(photo, model.preprocessing)
    layers = options.layers.split(",") if options.layers else pictures.default_layers(model)
    folder = _Folder(Path(options.out))

    try:
        filters = folder.save("filters", pictures.first_filters(model))
    except GraphError:  # of more channels than an image has
        filters = None
    shown = []
    for number, layer in enumerate(layers):
        maps = pictures.layer_maps(model, x, layer)
        channels = pictures.strongest(maps, options.channels)
        name = f"{number + 1}_{re.sub('[^0-9A-Za-z_.-]', '_', layer)}"
        shown.append(
            {
                "name": layer,
                "shape": maps.shape,
                "channels": channels,
                "maps": folder.save(f"{name}_maps", pictures.channel_maps(maps, channels)),
                "lights": folder.save(
                    f"{name}_lights", pictures.channel_lights(maps, channels, view)
                ),
            }
        )
    label = _label(model, options.label)
    found = activation_map(model, options.image, label, method=options.method)
    heat = folder.save(found.method, pictures.heat_over(photo, found, model.preprocessing))
    pages.write(
        folder.path / "index.html",
        "features.html",
        title=f"What {model.graph.name} sees in {Path(options.image).name}",
        photo=pages.picture(photo),
        view=pages.picture(view),
        filters=filters,
        stages=_stages(shown),
        found=found,
        heat=heat,
        classes=model.classes(model.run(x, outputs=[model.outputs[0].name])),
    )
    print(f"{found.label} ({found.probability:.1%}), explained by {found.method}")
    print(f"wrote {folder.count} pictures and {folder.path / 'index.html'}")
    return 0


def _stages(layers: list[Any]) -> list[tuple[str, str, list[Any]]]:
    """The layers in as many stretches as there are stages. If there are few layers, they belong to
    the last stages."""
    ends = [round(i * len(layers) / len(STAGES)) for i in range(len(STAGES) + 1)]
    parts = [layers[a:b] for a, b in itertools.pairwise(ends)]
    return [(*stage, part) for stage, part in zip(STAGES, parts, strict=True) if part]


class _Folder:
    """The folder for the pictures."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        path.mkdir(parents=True, exist_ok=True)

    def save(self, name: str, picture: Image) -> str:
        """Writes a picture; returns it as a `data:` URL."""
        content = pages.png(picture)
        atomic_write(self.path / f"{name}.png", [content])
        self.count += 1
        return pages.data_url(content)


def _label(model: Model, text: str | None) -> Any:
    """A class, by its name or, if the model has no names, by its index."""
    if text is not None and text.isdecimal() and text not in (model.labels or ()):
        return int(text)
    return text


def _channels(text: str) -> int | None:
    return None if text == "all" else count(text)
