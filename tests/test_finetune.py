"""examples/finetune_resnet18.py at a tiny size: the layers that learn, those that stay, and
agreement."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cnnrt

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")
pytest.importorskip("torchvision_cpu")  # which imports torchvision


def test_finetune(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import finetune_resnet18 as example

    generator = np.random.default_rng(0)
    for label, colour in (("blue", 2), ("red", 0)):
        folder = tmp_path / "photos" / label
        folder.mkdir(parents=True)
        for i in range(4):
            pixels = generator.integers(0, 80, (40, 40, 3)).astype(np.uint8)
            pixels[..., colour] += 150
            Image.fromarray(pixels).save(folder / f"{i}.png")
    output = tmp_path / "finetuned.bin"
    arguments = ["--size", "32", "--epochs", "4", "--rate", "0.01"]
    off = example.main([str(tmp_path / "photos"), str(output), *arguments])
    assert off < 1e-4
    lines = capsys.readouterr().out.splitlines()
    losses = [float(line.split()[-1]) for line in lines if line.startswith("epoch")]
    assert len(losses) == 4
    assert losses[-1] < losses[0]
    model = cnnrt.load(output)
    assert model.labels == ["blue", "red"]
    assert model.preprocessing == example.preprocessing_of(32)


def test_what_learns() -> None:
    import finetune_resnet18 as example

    torch.manual_seed(0)
    module = example.network(3)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    example.train(module, torch.rand(4, 3, 32, 32), torch.tensor([0, 1, 2, 0]), epochs=1, rate=0.01)
    changed = {n for n, value in module.state_dict().items() if not torch.equal(value, before[n])}
    parts = {name.rsplit(".", 1)[0] for name in changed}
    assert parts == {"fc", *(f"layer4.1.{part}" for part in ("conv1", "bn1", "conv2", "bn2"))}
    head = (module.fc.weight - before["fc.weight"]).abs().max()
    block = (module.layer4[1].conv2.weight - before["layer4.1.conv2.weight"]).abs().max()
    assert head > 5 * block
