"""Each kernel alone, on NumPy arrays, with names and arguments as in PyTorch's functional API.

A call makes a graph of one operator and runs it the way a network is run: same plan, same kernels.
Weights are packed anew by every call, so this is for learning and testing, not for speed.

All arrays are float32, N C H W, in and out; numbers of other types are converted. `activation` is
the name of one of `ACTIVATIONS`, or a tuple (name, alpha, beta). `threads` and `isa` choose the
number of threads and the instruction-set tier.

Raises (all functions): ShapeError: the arrays do not fit each other or the arguments. ValueError:
    an argument is none of the accepted values.
"""

from __future__ import annotations

from .activations import (
    activate,
    elu,
    gelu,
    hardsigmoid,
    hardswish,
    leaky_relu,
    mish,
    relu,
    relu6,
    selu,
    sigmoid,
    silu,
    softplus,
    tanh,
)
from .convolution import (
    conv1d,
    conv2d,
    conv3d,
    conv_transpose1d,
    conv_transpose2d,
    conv_transpose3d,
)
from .layers import add, batch_norm, layer_norm, linear, log_softmax, softmax
from .pooling import (
    adaptive_avg_pool1d,
    adaptive_avg_pool2d,
    adaptive_avg_pool3d,
    adaptive_max_pool1d,
    adaptive_max_pool2d,
    adaptive_max_pool3d,
    avg_pool1d,
    avg_pool2d,
    avg_pool3d,
    max_pool1d,
    max_pool2d,
    max_pool3d,
)
from .running import ACTIVATIONS

__all__ = [
    "ACTIVATIONS",
    "activate",
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "adaptive_max_pool3d",
    "add",
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "batch_norm",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "elu",
    "gelu",
    "hardsigmoid",
    "hardswish",
    "layer_norm",
    "leaky_relu",
    "linear",
    "log_softmax",
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
    "mish",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "tanh",
]
