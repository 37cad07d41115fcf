"""Networks of the textbooks as graphs whose weights have shapes but take no memory.

What is published of them, numbers of parameters and fields, follows from shapes alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cnnrt import ops
from cnnrt.graph import Graph, Node, TensorSpec


class Network:
    """Nodes in the order of the calls; each call gives the name of its result."""

    def __init__(self, *shape: int) -> None:
        self.graph = Graph([TensorSpec("x", shape)], [], [], {})
        self.channels = {"x": shape[1]}

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        name = f"{op}{len(self.graph.nodes)}"
        node = Node(op, name, list(inputs), [name], attributes)
        ops.complete(node)
        self.graph.nodes.append(node)
        self.channels[name] = self.channels.get(inputs[0], 0)
        return name

    def weight(self, *shape: int, value: float = 0.0) -> str:
        name = f"w{len(self.graph.constants)}"
        self.graph.constants[name] = np.broadcast_to(np.float32(value), shape)
        return name

    def conv(
        self, x: str, m: int, k: int, s: int = 1, p: int = 0, group: int = 1, **more: Any
    ) -> str:
        """A convolution with a bias; with `norm` = True without one, normalised."""
        norm = more.pop("norm", False)
        weights = [self.weight(m, self.channels[x] // group, k, k)]
        if not norm:
            weights.append(self.weight(m))
        y = self.node("conv", x, *weights, group=group, strides=[s, s], pads=[p] * 4, **more)
        self.channels[y] = m
        return self.node("batch_normalization", y, *self.norms(m)) if norm else y

    def norms(self, m: int) -> list[str]:
        """Scale, shift, mean and variance."""
        return [self.weight(m), self.weight(m), self.weight(m), self.weight(m, value=1.0)]

    def pool(self, x: str, k: int, s: int, p: int = 0, **more: Any) -> str:
        shape = {"kernel_shape": [k, k], "strides": [s, s], "pads": [p] * 4}
        return self.node("max_pool", x, **shape, **more)

    def linear(self, x: str, m: int, k: int) -> str:
        return self.node("gemm", x, self.weight(m, k), self.weight(m), transB=1)

    def relu(self, x: str) -> str:
        return self.node("relu", x)

    def silu(self, x: str) -> str:
        return self.node("mul", x, self.node("sigmoid", x))

    def done(self, y: str) -> Graph:
        self.graph.outputs = [TensorSpec(y, ())]
        return self.graph


def stacked_3x3(count: int) -> Graph:
    net = Network(1, 3, 32, 32)
    y = "x"
    for _ in range(count):
        y = net.relu(net.conv(y, 64, 3, p=1))
    return net.done(y)


def lenet5() -> Graph:
    """LeCun et al., 1998, every map of the second convolution seeing all of the first."""
    net = Network(1, 1, 32, 32)
    y = net.pool(net.node("tanh", net.conv("x", 6, 5)), 2, 2)
    y = net.pool(net.node("tanh", net.conv(y, 16, 5)), 2, 2)
    y = net.node("flatten", net.node("tanh", net.conv(y, 120, 5)))
    return net.done(net.linear(net.node("tanh", net.linear(y, 84, 120)), 10, 84))


def alexnet() -> Graph:
    """Krizhevsky, 2014, as torchvision has it."""
    net = Network(1, 3, 224, 224)
    y = net.pool(net.relu(net.conv("x", 64, 11, 4, 2)), 3, 2)
    y = net.pool(net.relu(net.conv(y, 192, 5, 1, 2)), 3, 2)
    for m in (384, 256, 256):
        y = net.relu(net.conv(y, m, 3, 1, 1))
    y = net.node("flatten", net.pool(y, 3, 2))
    y = net.relu(net.linear(y, 4096, 256 * 36))
    return net.done(net.linear(net.relu(net.linear(y, 4096, 4096)), 1000, 4096))


def vgg16() -> Graph:
    """Simonyan and Zisserman, 2014."""
    net = Network(1, 3, 224, 224)
    y = "x"
    for m, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(count):
            y = net.relu(net.conv(y, m, 3, 1, 1))
        y = net.pool(y, 2, 2)
    y = net.relu(net.linear(net.node("flatten", y), 4096, 512 * 49))
    return net.done(net.linear(net.relu(net.linear(y, 4096, 4096)), 1000, 4096))


def resnet50() -> Graph:
    """He et al., 2015, with the strides in the 3x3 convolutions as torchvision has them."""
    net = Network(1, 3, 224, 224)
    y = net.pool(net.relu(net.conv("x", 64, 7, 2, 3, norm=True)), 3, 2, 1)
    for stage, count in enumerate((3, 4, 6, 3)):
        m = 64 << stage
        for block in range(count):
            s = 2 if stage and not block else 1
            inner = net.relu(net.conv(y, m, 1, norm=True))
            inner = net.relu(net.conv(inner, m, 3, s, 1, norm=True))
            inner = net.conv(inner, 4 * m, 1, norm=True)
            skip = y if block else net.conv(y, 4 * m, 1, s, norm=True)
            y = net.relu(net.node("add", inner, skip))
    y = net.node("flatten", net.node("global_average_pool", y))
    return net.done(net.linear(y, 1000, 2048))


def googlenet() -> Graph:
    """Szegedy et al., 2014, as torchvision has it: normalised, 3x3 for 5x5, no auxiliary heads."""
    net = Network(1, 3, 224, 224)

    def conv(x: str, m: int, k: int, s: int = 1) -> str:
        return net.relu(net.conv(x, m, k, s, k // 2, norm=True))

    y = net.pool(conv("x", 64, 7, 2), 3, 2, ceil_mode=1)
    y = net.pool(conv(conv(y, 64, 1), 192, 3), 3, 2, ceil_mode=1)
    for row in (
        (64, 96, 128, 16, 32, 32),
        (128, 128, 192, 32, 96, 64),
        (),
        (192, 96, 208, 16, 48, 64),
        (160, 112, 224, 24, 64, 64),
        (128, 128, 256, 24, 64, 64),
        (112, 144, 288, 32, 64, 64),
        (256, 160, 320, 32, 128, 128),
        (),
        (256, 160, 320, 32, 128, 128),
        (384, 192, 384, 48, 128, 128),
    ):
        if not row:
            k = 3 if net.channels[y] == 480 else 2
            y = net.pool(y, k, 2, ceil_mode=1)
            continue
        a, b, c, d, e, f = row
        pooled = net.pool(y, 3, 1, 1)
        parts = [conv(y, a, 1), conv(conv(y, b, 1), c, 3), conv(conv(y, d, 1), e, 3)]
        y = net.node("concat", *parts, conv(pooled, f, 1), axis=1)
        net.channels[y] = a + c + e + f
    y = net.node("flatten", net.node("global_average_pool", y))
    return net.done(net.linear(y, 1000, 1024))


def efficientnet_b0() -> Graph:
    """Tan and Le, 2019."""
    net = Network(1, 3, 224, 224)
    y = net.silu(net.conv("x", 32, 3, 2, 1, norm=True))
    for expansion, m, count, stride, k in (
        (1, 16, 1, 1, 3),
        (6, 24, 2, 2, 3),
        (6, 40, 2, 2, 5),
        (6, 80, 3, 2, 3),
        (6, 112, 3, 1, 5),
        (6, 192, 4, 2, 5),
        (6, 320, 1, 1, 3),
    ):
        for i in range(count):
            c = net.channels[y]
            wide, s = c * expansion, 1 if i else stride
            inner = net.silu(net.conv(y, wide, 1, norm=True)) if expansion > 1 else y
            inner = net.silu(net.conv(inner, wide, k, s, k // 2, wide, norm=True))
            gate = net.silu(net.conv(net.node("global_average_pool", inner), c // 4, 1))
            inner = net.node("mul", inner, net.node("sigmoid", net.conv(gate, wide, 1)))
            inner = net.conv(inner, m, 1, norm=True)
            y = net.node("add", inner, y) if i else inner
    y = net.silu(net.conv(y, 1280, 1, norm=True))
    y = net.node("flatten", net.node("global_average_pool", y))
    return net.done(net.linear(y, 1000, 1280))
