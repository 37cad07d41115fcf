"""Replays the findings of fuzzing, and a few fresh mutations of every kind."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import environment

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import mutate  # noqa: E402
import seeds  # noqa: E402
import target  # noqa: E402

FILES = sorted(path for path in (HERE / "corpus").glob("*/*") if path.is_file())


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_findings(path: Path) -> None:
    target.execute(path.read_bytes())


def test_fresh_mutations() -> None:
    rng = random.Random(0)
    files = [seeds.file_of(graph) for graph in seeds.small_networks()]
    assert {target.execute(data) for data in files} == {"ran"}
    results = []
    for _ in range(1500):
        data = mutate.mutated_model(rng.choice(files), rng.choice(files), rng)
        results.append(target.execute(data))
        if results[-1] == "ran" and len(files) < 100:
            files.append(data)
    # The mutations must reach beyond the first check, or they test nothing.
    assert results.count("ran") > 200
    assert results.count("refused") > 200


@pytest.mark.parametrize("kind", ["model", "onnx"])
def test_within_bounds(kind: str, tmp_path: Path) -> None:
    """Fails if one of the files crashes, or takes 5 seconds or 500 MB."""
    if kind == "onnx":
        pytest.importorskip("onnx")
    script = [sys.executable, str(HERE / "count.py"), kind, "--count", "600", "--seed", "1"]
    done = subprocess.run(
        [*script, "--folder", str(tmp_path)],
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "findings: none" in done.stdout
