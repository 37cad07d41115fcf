"""The parts of a model that a task needs, and the limits of what counts as found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from ..classification import Scores
from ..graph import Array, Graph
from ..preprocessing import Preprocessing
from ..preprocessing.steps import ImageChannels
from .task import Task

if TYPE_CHECKING:
    from .upscale import Reach

MAX_DETECTIONS = 300
"""Detections of a picture, unless more are asked for; as ultralytics limits them."""


class Network(Protocol):
    """The parts of a model that a task needs."""

    graph: Graph
    preprocessing: Preprocessing | None
    labels: list[str] | None
    task: Task | None

    def run(self, x: Any, outputs: Sequence[str] | None = None) -> Any: ...


class PictureNetwork(Network, Protocol):
    """A network that knows how far its pixels see, and where its classifier begins."""

    def _reach(self) -> Reach: ...

    def _features(self) -> str | None: ...


class Classifier(Network, Protocol):
    """A network with a score for each class."""

    multi_label: bool

    @property
    def kind_of_scores(self) -> Scores: ...

    def input_from(self, image: Any, channels: ImageChannels = "RGB") -> Array: ...

    def classes(self, scores: Array, top: int = 5) -> Any: ...


class Thresholds(NamedTuple):
    """Limits of what counts as found; see `Model.detect`."""

    min_score: float
    max_overlap: float | None
    max_detections: int
    class_agnostic: bool | None

    def check(self) -> Thresholds:
        """
        Raises:
            ValueError: a limit is out of range.
        """
        if not 0 <= self.min_score <= 1:
            raise ValueError(f"min_score is from 0 to 1, not {self.min_score}")
        if self.max_overlap is not None and not 0 <= self.max_overlap <= 1:
            raise ValueError(f"max_overlap is from 0 to 1, not {self.max_overlap}")
        if self.max_detections < 1:
            raise ValueError(f"max_detections is at least 1, not {self.max_detections}")
        return self
