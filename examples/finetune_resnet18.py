"""Fine-tuning in PyTorch and running in cnnrt: ResNet-18 with a new head and a new last block.

    pip install torch torchvision onnx onnxscript
    python examples/finetune_resnet18.py photos/ finetuned.bin --weights resnet18-f37072fd.pth

`photos/` holds a folder of images for each class. All layers but the last block and the head are
frozen; their batch normalisation keeps its statistics. The block learns at a tenth of the head's
rate: it has something to lose. The network is exported with cnnrt.export, and PyTorch and cnnrt
must agree on the images. Without --weights the network starts from random numbers.

If no layer but the head needs to learn, `python -m cnnrt adapt` does it without PyTorch.
"""

import argparse
from pathlib import Path

import numpy as np

try:
    import torch
    from torchvision.models import resnet18
except ModuleNotFoundError as missing:
    raise SystemExit(f"{__doc__}\nThe package {missing.name} is not installed.") from None

import cnnrt

TOLERANCE = 1e-3
"""Fraction of the largest score; Winograd's convolutions in float32 stay well below it."""


def network(classes: int, weights: str | Path | None = None) -> torch.nn.Module:
    """ResNet-18 with a head for other classes; only the head and layer4.1 can learn."""
    module = resnet18()
    if weights is not None:
        module.load_state_dict(torch.load(weights, weights_only=True))
    module.requires_grad_(False)
    module.layer4[1].requires_grad_(True)
    module.fc = torch.nn.Linear(module.fc.in_features, classes)
    return module


def preprocessing_of(size: int) -> cnnrt.Preprocessing:
    """The preprocessing of torchvision's weights, for an input of any size."""
    return cnnrt.Preprocessing(
        size=(size, size),
        resize=round(size * 256 / 224),
        scale=1 / 255,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    )


def read(
    folder: Path, preprocessing: cnnrt.Preprocessing
) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
    """Images (n, 3, h, w), as the exported model will see them, their classes, and the names."""
    labels = sorted(path.name for path in folder.iterdir() if path.is_dir())
    files = [cnnrt.image_files([folder / label]) for label in labels]
    images = np.concatenate([preprocessing(file) for group in files for file in group])
    classes = np.repeat(np.arange(len(labels)), [len(group) for group in files])
    return torch.from_numpy(images), torch.from_numpy(classes), labels


def train(
    module: torch.nn.Module,
    images: torch.Tensor,
    classes: torch.Tensor,
    *,
    epochs: int,
    rate: float,
    batch: int = 16,
) -> list[float]:
    """Trains the head at `rate` and the last block at a tenth of it; returns the loss of each
    epoch."""
    module.eval()  # the frozen layers' statistics stay
    module.layer4[1].train()
    optimizer = torch.optim.AdamW(
        [
            {"params": module.fc.parameters(), "lr": rate},
            {"params": module.layer4[1].parameters(), "lr": rate / 10},
        ]
    )
    losses = []
    for _ in range(epochs):
        order = torch.randperm(len(images))
        total = 0.0
        for chosen in order.split(batch):
            loss = torch.nn.functional.cross_entropy(module(images[chosen]), classes[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(chosen)
        losses.append(total / len(images))
    return losses


def difference(module: torch.nn.Module, images: torch.Tensor, path: Path) -> float:
    """The largest difference between PyTorch's scores and cnnrt's, as a share of the largest."""
    module.eval()
    with torch.no_grad():
        want = module(images).numpy()
    got = cnnrt.load(path)(images.numpy())
    return float(np.abs(got - want).max() / np.abs(want).max())


def main(arguments: list[str] | None = None) -> float:
    parser = argparse.ArgumentParser(description="Fine-tune ResNet-18 and run it in cnnrt.")
    parser.add_argument("folder", type=Path, help="with a folder of images for each class")
    parser.add_argument("output", type=Path, help="the model.bin to write")
    parser.add_argument("--weights", type=Path, help="torchvision's file (default: random numbers)")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--rate", type=float, default=1e-3, help="learning rate of the head")
    parser.add_argument("--size", type=int, default=224, help="side of the input (default: 224)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)

    torch.manual_seed(args.seed)
    preprocessing = preprocessing_of(args.size)
    images, classes, labels = read(args.folder, preprocessing)
    module = network(len(labels), args.weights)
    for epoch, loss in enumerate(
        train(module, images, classes, epochs=args.epochs, rate=args.rate), start=1
    ):
        print(f"epoch {epoch}: loss {loss:.4f}")

    cnnrt.export(module, images[:1], args.output, labels=labels, preprocessing=preprocessing)
    off = difference(module, images[:32], args.output)
    print(f"wrote {args.output}; PyTorch and cnnrt differ by {off:.1e} of the largest score")
    if off > TOLERANCE:
        raise SystemExit(f"they should differ by less than {TOLERANCE}")
    return off


if __name__ == "__main__":
    main()
