"""The result of a quantisation: the network, and a report as text, JSON or a page."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from .. import formats, pages
from ..analysis.summary import table
from ..graph import Array
from ..images import open_image
from ..model import Model
from ..storage.files import atomic_write
from .calibration import Calibration
from .layer_choice import Chosen, Goal
from .measurement import Comparison, Error
from .ranges import Histogram, Quantiser

BARS = 64
"""Bars of a histogram on the page."""
SHOWN, THUMBNAIL = 24, 160
"""Images on the page with a changed answer, and the pixels of their longer side."""


@dataclass(frozen=True)
class LayerReport:
    """A layer that could run in integers, and the effect of that."""

    name: str
    operator: str
    integers: bool
    """False: it stays in float32."""
    decibels: float | None
    """Signal to noise of its result, with the errors of all layers before it. None if not measured:
    the layer runs in float32 or is a product of two tensors."""
    alone: float | None
    """Signal to noise of the network's output if this layer alone runs in integers. None if not
    measured: all layers together reached the target."""


@dataclass(frozen=True)
class TensorReport:
    """A tensor that is rounded to 8 bits."""

    name: str
    low: float
    high: float
    """The range that 8 bits express."""
    least: float
    greatest: float
    """The values that occurred, and 0."""
    scale: float
    zero_point: int
    clipped: float
    """Share of the values beyond the range."""
    decibels: float | None
    """Signal to noise of the rounding of this tensor alone; None if it is zero everywhere."""
    bars: list[float]
    """Its histogram from `least` to `greatest`: 64 shares of all values."""


@dataclass(frozen=True)
class Changed:
    """An image with another likeliest class in integers."""

    image: Any
    """The image as it was given: a file, a picture or an array."""
    before: int
    after: int


@dataclass(frozen=True)
class Quantization:
    """A quantised network, and its distance from the one in floats."""

    model: Model
    """The network with QuantizeLinear and DequantizeLinear around its integer parts, ready to
    run."""
    method: str
    outputs: dict[str, float]
    """Signal to noise of each output in dB, on the images held back."""
    agreement: float | None
    """Share of the images held back with the same likeliest class; None: there are no classes."""
    goal: Goal
    reached: bool
    """False if no choice of layers reached the goal."""
    layers: list[LayerReport]
    tensors: list[TensorReport]
    changed: list[Changed]
    calibrated: int
    """Number of runs from which scales and weights follow."""
    checked: int
    """Number of runs for the comparison: others, unless there were fewer than four."""
    stored: tuple[int, int]
    """Bytes of all constants, in floats and quantised."""
    seconds: float

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the network as model.bin, or as ONNX if the path ends in .onnx.

        Raises:
            OSError: the file cannot be written.
            ImportError: the package `onnx` is missing, which ONNX needs.
        """
        described: dict[str, Any] = {
            "preprocessing": self.model.preprocessing,
            "labels": self.model.labels,
            "notice": self.model.notice,
            "multi_label": self.model.multi_label,
            "task": self.model.task,
        }
        if str(path).endswith(".onnx"):
            from ..formats.onnx.writer import write_onnx  # noqa: PLC0415  (needs a package)

            write_onnx(path, self.model.graph, **described)
        else:
            formats.write_model(path, self.model.graph, **described)

    def to_json(self) -> dict[str, Any]:
        """Plain dicts and lists. Infinite dB, if there is no noise, are null."""
        document: dict[str, Any] = {
            "network": self.model.graph.name,
            "method": self.method,
            "outputs": self.outputs,
            "agreement": self.agreement,
            "target": asdict(self.goal),
            "reached": self.reached,
            "calibrated": self.calibrated,
            "checked": self.checked,
            "stored": list(self.stored),
            "seconds": self.seconds,
            "layers": [asdict(layer) for layer in self.layers],
            "tensors": [asdict(tensor) for tensor in self.tensors],
            "changed": [
                {"image": _name(c.image), "from": self.label(c.before), "to": self.label(c.after)}
                for c in self.changed
            ],
        }
        finite: dict[str, Any] = _finite(document)
        return finite

    def report(self, path: str | os.PathLike[str]) -> None:
        """Writes the report: as JSON if the path ends in .json, else as an HTML page.

        Raises:
            ImportError: Jinja is not installed (``pip install 'cnnrt[html]'``).
            OSError: the file cannot be written.
        """
        if str(path).endswith(".json"):
            text = json.dumps(self.to_json(), indent=2, ensure_ascii=False, allow_nan=False)
            atomic_write(path, [text.encode()])
            return
        finite = [db for layer in self.layers if _is_finite(db := layer.decibels)]
        pages.write(
            path,
            "quantize.html",
            title=f"{self.model.graph.name} in 8 bits",
            found=self,
            facts=self.facts(),
            largest=max(finite, default=0) or 1,
            changed=[self._shown(c) for c in self.changed[:SHOWN]],
        )

    def label(self, index: int) -> str:
        """The name of a class, or its number if there are no names."""
        labels = self.model.labels or []
        return labels[index] if index < len(labels) else str(index)

    def facts(self) -> list[tuple[str, str]]:
        """Name and value of each figure of the whole network."""
        before, after = self.stored
        rows = [(f"output {name}", decibel_text(db)) for name, db in self.outputs.items()]
        if self.agreement is not None:
            same = f"{self.agreement:.1%} of {self.checked} images"
            rows.append(("same answer", same))
        integers = sum(layer.integers for layer in self.layers)
        rows += [
            ("layers in integers", f"{integers} of {len(self.layers)}"),
            ("constants", f"{after / 1e6:.1f} MB of {before / 1e6:.1f} MB"),
            ("images to calibrate", f"{self.calibrated}, ranges by {self.method}"),
            ("seconds", f"{self.seconds:.1f}"),
        ]
        return rows

    def __str__(self) -> str:
        head = ("layer", "operator", "runs in", "dB", "dB alone")
        rows = [
            (
                layer.name,
                layer.operator,
                "int8" if layer.integers else "float32",
                decibel_text(layer.decibels, unit=""),
                decibel_text(layer.alone, unit=""),
            )
            for layer in self.layers
        ]
        lines = table([head, *rows], right={3, 4})
        width = max(len(name) for name, _ in self.facts())
        totals = [f"{name:<{width}}  {value}" for name, value in self.facts()]
        missed = [] if self.reached else ["", "the target is not reached, whatever runs in floats"]
        return "\n".join([*lines, "", *totals, *missed])

    def _shown(self, changed: Changed) -> dict[str, Any]:
        """An image of the page."""
        shown = {
            "name": _name(changed.image),
            "before": self.label(changed.before),
            "after": self.label(changed.after),
            "picture": "",
        }
        if not _is_input(changed.image):
            image = open_image(changed.image, "RGB")
            image.thumbnail((THUMBNAIL, THUMBNAIL))
            shown["picture"] = pages.picture(image)
        return shown


def quantization_of(
    calibration: Calibration,
    model: Model,
    found: Comparison,
    chosen: Chosen,
    goal: Goal,
    method: str,
    seconds: float,
) -> Quantization:
    """The result of a quantisation, from its parts."""
    outputs = [spec.name for spec in calibration.floats.outputs]
    scheme = calibration.scheme(chosen.names)
    results = {layer.name: layer.output for layer in scheme.layers}
    nodes = {node.name: node.op for node in calibration.graph.nodes}
    integers = {node.name for node in calibration.graph.nodes if node.outputs[0] in scheme.made}
    layers = []
    for name in calibration.scheme().candidates:
        error = found.errors.get(results.get(name, ""))
        alone = chosen.alone.get(name)
        layers.append(
            LayerReport(
                name,
                nodes[name],
                name in integers,
                error.decibels if error else None,
                alone.decibels if alone else None,
            )
        )
    changed = []
    batch = calibration.samples.batch
    for i, (before, after) in enumerate(found.answers):
        if before != after:
            image = calibration.samples.images(calibration.held[i // batch])[i % batch]
            changed.append(Changed(image, before, after))
    return Quantization(
        model=model,
        method=method,
        outputs={name: found.errors[name].decibels for name in outputs},
        agreement=found.agreement,
        goal=goal,
        reached=chosen.reached,
        layers=layers,
        tensors=[
            _tensor(name, calibration.histograms[name], calibration.quantisers[name])
            for name in scheme.tensors
        ],
        changed=changed,
        calibrated=len(calibration.calibrated),
        checked=len(calibration.held),
        stored=(_nbytes(calibration.whole), _nbytes(model)),
        seconds=seconds,
    )


def decibel_text(value: float | None, unit: str = " dB") -> str:
    """Decibels with one place; empty if they are not known."""
    if value is None:
        return ""
    return f"{value:.1f}{unit}" if math.isfinite(value) else "exact" if value > 0 else "lost"


def _tensor(name: str, seen: Histogram, found: Quantiser) -> TensorReport:
    low, high = -found.zero * found.scale, (255 - found.zero) * found.scale
    centres, counts = seen.values()
    total = max(float(counts.sum()), 1.0)
    error = Error(float(counts @ centres**2), total * seen.error(low, high))
    return TensorReport(
        name=name,
        low=low,
        high=high,
        least=seen.low,
        greatest=seen.high,
        scale=found.scale,
        zero_point=found.zero,
        clipped=float(counts[(centres < low) | (centres > high)].sum() / total),
        decibels=error.decibels if error.signal and error.noise else None,
        bars=_bars(seen),
    )


def _bars(seen: Histogram) -> list[float]:
    """A histogram with few bars, as shares of all values."""
    centres, counts = seen.values()
    span = (seen.high - seen.low) or 1.0
    places = np.clip(((centres - seen.low) / span * BARS).astype(int), 0, BARS - 1)
    found: Array = np.bincount(places, counts, BARS) / max(float(counts.sum()), 1.0)
    return [float(share) for share in found]


def _nbytes(model: Model) -> int:
    return sum(value.nbytes for value in model.graph.constants.values())


def _is_input(image: Any) -> bool:
    """True for an array that is no picture but an input already."""
    return isinstance(image, Mapping) or (isinstance(image, np.ndarray) and image.dtype != np.uint8)


def _is_finite(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)


def _finite(document: Any) -> Any:
    """A document of dicts and lists with null for numbers that JSON does not have."""
    if isinstance(document, dict):
        return {key: _finite(value) for key, value in document.items()}
    if isinstance(document, list):
        return [_finite(value) for value in document]
    if isinstance(document, float) and not math.isfinite(document):
        return None
    return document


def _name(image: Any) -> str:
    """The name of a file; empty for a picture in memory."""
    return Path(image).name if isinstance(image, (str, os.PathLike)) else ""
