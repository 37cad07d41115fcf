"""Converts a network from TorchScript to LiteRT's file format, by litert-torch.

python bench/litert.py model.pt model_b1.tflite 1,3,224,224
"""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path


def convert(torchscript: Path, target: Path, shape: tuple[int, ...]) -> None:
    """Writes the network at one input shape, whole or not at all."""
    import litert_torch  # noqa: PLC0415
    import torch  # noqa: PLC0415
    from torch._export.converter import TS2EPConverter  # noqa: PLC0415

    # litert-torch takes modules that torch.export can trace, and TorchScript is none.
    example = (torch.zeros(shape),)
    module = torch.jit.load(str(torchscript)).eval()  # type: ignore[no-untyped-call]
    program = TS2EPConverter(module, example).convert()  # type: ignore[no-untyped-call]
    part = target.with_name(f"{os.getpid()}-{target.name}")
    litert_torch.convert(program.module(), example).export(str(part))
    part.replace(target)


def main() -> None:
    """The command line."""
    if len(sys.argv) != 4:
        sys.exit("usage: python bench/litert.py MODEL.pt MODEL.tflite SHAPE")
    warnings.simplefilter("ignore")
    torchscript, target, shape = sys.argv[1:]
    convert(Path(torchscript), Path(target), tuple(map(int, shape.split(","))))


if __name__ == "__main__":
    main()
