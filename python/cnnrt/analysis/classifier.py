"""Where a network ends and its classifier begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import GraphError
from ..graph import Array, Graph, Node, TensorSpec
from ..passes.infer import infer
from ..passes.rewrite import rewrite
from ..passes.to_linear import to_linear
from ..preprocessing import Preprocessing
from ..tasks.task import Task

SAME_SCORES = {
    *("identity", "dropout", "cast", "reshape", "flatten", "squeeze", "unsqueeze"),
    *("softmax", "log_softmax", "sigmoid"),
}
"""Operators that may follow a classifier: they keep the order of the classes."""

SAME_VALUES = {"identity", "dropout", "reshape", "flatten", "squeeze", "unsqueeze"}
"""Operators that may lie between the pooling and the classifier."""

POOLED_SCORES = {"relu", "clip"}
"""Further operators that may lie between a convolution as classifier and the pooling after it."""

NOMINAL_SIDE = 224
"""Pixels assumed for a free side of an input. Any size that the network takes shows how many axes a
tensor has."""


@dataclass(frozen=True)
class Classifier:
    """The last layer of a network, which makes one score per class out of features."""

    name: str
    """Name of the node."""
    features: str
    """The tensor that it reads: (N, K); (N, K, h, w) for a convolution."""
    maps: str | None
    """A tensor (N, K, h, w) whose mean over space is the features: the input of the global average
    pooling. None: the features are made in another way."""
    weight: Array
    """Shape (classes, K)."""
    bias: Array
    """Shape (classes,)."""


def features_of(
    graph: Graph,
    preprocessing: Preprocessing | None,
    labels: Sequence[str] | None,
    task: Task | None,
) -> str | None:
    """The tensor that the classifier of a network reads; None if its task is another.

    Raises:
        GraphError: it has labels, but does not end in a classifier.
    """
    if not labels or (task and task.kind != "classify"):
        return None
    source = graph.inputs[0]
    return find_classifier(graph, {source.name: input_shape(source, preprocessing)}).features


def find_classifier(graph: Graph, shapes: Mapping[str, tuple[int, ...]]) -> Classifier:
    """The classifier that makes a network's first output: a linear layer, or a 1x1 convolution
    beside global pooling.

    Args:
        graph: as it was read, before any pass.
        shapes: shapes of the inputs.

    Raises:
        GraphError: the output does not come straight from such a layer.
        ShapeError: the network does not take these shapes.
    """
    output = graph.outputs[0].name
    typed = graph.ending_at([output]).copy()
    infer(typed, shapes)
    to_linear(typed)
    rewrite(typed)
    search = _Search(typed, output)
    found = search.classifier()
    if found.features not in set(graph.tensors()):
        raise search.missing(f"the input of {found.name!r} is made by a pass")
    return found


class _Search:
    """Walks up from the output of a graph whose types are known."""

    def __init__(self, graph: Graph, output: str) -> None:
        self.graph = graph
        self.output = output
        self.producers = graph.producers()

    def classifier(self) -> Classifier:
        name, pooled, activated = self.output, False, False
        while True:
            node = self.producers.get(name)
            if node is None:
                raise self.missing(f"there is none up to {name!r}")
            if node.op == "linear" and not activated:
                return self._linear(node)
            if node.op == "conv":
                return self._conv(node, pooled=pooled, activated=activated)
            if self._pools(node):
                pooled = True
            elif node.op in POOLED_SCORES:
                activated = True
            elif node.op not in SAME_SCORES:
                raise self.missing(f"{node.name!r} ({node.op}) comes after it")
            name = node.inputs[0]

    def missing(self, reason: str) -> GraphError:
        return GraphError(
            f"the output {self.output!r} of {self.graph.name!r} does not come from a classifier, a "
            f"linear layer or 1x1 convolution: {reason}; name a layer instead"
        )

    def _linear(self, node: Node) -> Classifier:
        weight = self.graph.constants.get(node.inputs[1])
        if weight is None:
            raise self.missing(f"the weight of {node.name!r} is computed")
        if self.graph.types[node.inputs[0]].rank != 2:
            raise self.missing(f"{node.name!r} is applied at several positions")
        return self._found(node, weight, self._maps(node.inputs[0]))

    def _conv(self, node: Node, *, pooled: bool, activated: bool) -> Classifier:
        weight = self.graph.constants.get(node.inputs[1])
        x = self.graph.types[node.inputs[0]].shape
        if weight is None or len(x) != 4 or node["group"] != 1 or weight.shape[2:] != (1, 1):
            raise self.missing(
                f"the convolution {node.name!r} is not 1x1, in one group, with constant weights"
            )
        if x[2:] == (1, 1) and not activated:
            return self._found(node, weight, self._maps(node.inputs[0]))
        if not pooled:
            raise self.missing(f"no pooling follows the convolution {node.name!r}")
        return self._found(node, weight, node.inputs[0])

    def _found(self, node: Node, weight: Array, maps: str | None) -> Classifier:
        classes = len(weight)
        bias = np.zeros(classes, weight.dtype)
        if node.input(2):
            constant = self.graph.constants.get(node.inputs[2])
            if constant is None:
                raise self.missing(f"the bias of {node.name!r} is computed")
            bias = constant
        return Classifier(node.name, node.inputs[0], maps, weight.reshape(classes, -1), bias)

    def _maps(self, name: str) -> str | None:
        """The input of the global average pooling that makes a tensor, if that is how it is made
        and its channels keep their order."""
        while (node := self.producers.get(name)) is not None:
            if self._pools(node):
                return node.inputs[0]
            x, y = (self.graph.types[n].shape for n in (node.inputs[0], node.outputs[0]))
            channels = [size for size in x[1:] if size != 1], [size for size in y[1:] if size != 1]
            if node.op not in SAME_VALUES or channels[0] != channels[1]:
                return None
            name = node.inputs[0]
        return None

    def _pools(self, node: Node) -> bool:
        """True if a node takes the mean over all of the space of (N, C, h, w)."""
        shape = self.graph.types[node.inputs[0]].shape if node.inputs else ()
        if len(shape) != 4:
            return False
        if node.op == "global_average_pool":
            return True
        return (
            node.op == "average_pool"
            and tuple(node["kernel_shape"]) == shape[2:]
            and not any(node["pads"] or ())
            and self.graph.types[node.outputs[0]].shape[2:] == (1, 1)
        )


def input_shape(spec: TensorSpec, preprocessing: Preprocessing | None) -> tuple[int, ...]:
    """The shape of an input for two images, or for as many as a network takes that fixes them.

    Two, because a tensor's first axis then shows whether it is the images'.
    """
    size = preprocessing.size if preprocessing else (NOMINAL_SIDE, NOMINAL_SIDE)
    channels = len(preprocessing.mean) if preprocessing else 3
    free = (2, channels, *size)
    return tuple(
        d if isinstance(d, int) else free[i] if i < 4 else NOMINAL_SIDE
        for i, d in enumerate(spec.shape)
    )
