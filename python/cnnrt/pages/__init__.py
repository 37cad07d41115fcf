"""Self-contained HTML pages: no request to the network, readable on a telephone, light or dark.

A page is a Jinja template of this folder that extends `base.html`. Jinja escapes every value, so
names out of an untrusted file cannot become markup. Needs the extra `html`.
"""

from __future__ import annotations

import base64
import io
import os
from typing import Any

import numpy as np
from PIL import Image

from .. import __version__
from ..graph import Array
from ..ops import OPS
from ..process.extras import missing
from ..storage.files import atomic_write
from ..storage.text import escaped_lines

FAMILIES = {
    "conv": "#3b82f6",
    "conv_transpose": "#0ea5e9",
    "dense": "#8b5cf6",
    "attention": "#d946ef",
    "recurrent": "#c026d3",
    "norm": "#14b8a6",
    "elementwise": "#f59e0b",
    "binary": "#eab308",
    "pool": "#ef4444",
    "reduce": "#f97316",
    "resize": "#84cc16",
    "sampling": "#65a30d",
    "shape": "#64748b",
    "slices": "#78716c",
    "gather": "#57534e",
    "quantize": "#be123c",
    "detection": "#9f1239",
    "other": "#94a3b8",
}
"""Colours of the families of operators that have one; legible under white text or black."""


def render(template: str, **values: Any) -> str:
    """The page that a template of this folder makes from the values.

    Raises:
        ImportError: Jinja is not installed.
    """
    try:
        import jinja2  # noqa: PLC0415
    except ImportError:
        raise ImportError(missing("an HTML page", "jinja2")) from None
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("cnnrt", "pages"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(
        version=__version__, colours=FAMILIES, **values
    )


def write(path: str | os.PathLike[str], template: str, **values: Any) -> None:
    """Renders a template into a file, whole or not at all; control codes come out escaped.

    Raises:
        ImportError: Jinja is not installed.
        OSError: the file cannot be written.
    """
    atomic_write(path, [escaped_lines(render(template, **values)).encode()])


def family(op: str) -> str:
    """The colour class of an operator: its family, or "other" for one without a colour."""
    name = OPS[op].family if op in OPS else ""
    return name if name in FAMILIES else "other"


def picture(pixels: Array | Image.Image) -> str:
    """A picture as a `data:` URL, to stand in a page by itself.

    Args:
        pixels: a PIL image, or a uint8 array H x W or H x W x 3.
    """
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(np.asarray(pixels))
    return data_url(png(image))


def png(image: Image.Image) -> bytes:
    """The bytes of a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def data_url(content: bytes) -> str:
    """The `data:` URL of a PNG file."""
    return "data:image/png;base64," + base64.b64encode(content).decode()
