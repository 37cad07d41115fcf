"""`python -m cnnrt bench`: its rows and their contents. No time is asserted."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from checks import Random
from cnnrt import cli
from cnnrt.benchmark.process import Worker, WorkerError
from cnnrt.formats import write_model
from networks import network

LENET5 = str(Path(__file__).parent.parent / "examples" / "lenet5.bin")


def bench(capsys: Any, *arguments: str) -> tuple[int, str]:
    try:
        status = cli.main(["bench", *arguments])
    except SystemExit as exit_:
        return int(exit_.code or 0), capsys.readouterr().err
    return status, capsys.readouterr().out


def test_rows(capsys: Any) -> None:
    status, out = bench(
        capsys, LENET5, "--threads", "1,2", "--batch", "1,3", "--seconds", "0.02", "--json"
    )
    rows = json.loads(out)
    assert status == 0
    assert [(r["threads"], r["batch"]) for r in rows] == [(1, 1), (2, 1), (1, 3), (2, 3)]
    for row in rows:
        assert 0 < row["min_ms"] <= row["median_ms"] <= row["p99_ms"]
        assert row["runs"] >= 4
        assert row["error"] < 1e-5
        assert row["load_ms"] > 0
        assert row["peak_bytes"] > 1e7
        assert row["per_second"] > 0


@pytest.mark.skipif(not importlib.util.find_spec("onnxruntime"), reason="no onnxruntime")
def test_beside_onnxruntime(capsys: Any) -> None:
    pytest.importorskip("onnx")
    arguments = ("--threads", "1", "--seconds", "0.05", "--against", "onnxruntime")
    status, out = bench(capsys, LENET5, *arguments)
    head, ours, theirs = out.splitlines()
    assert status == 0
    assert head.split()[:3] == ["engine", "threads", "batch"]
    assert ours.startswith("cnnrt")
    assert theirs.startswith("onnxruntime")
    assert all(float(line.split()[-6]) > 0 for line in (ours, theirs))  # the median


def test_several_inputs(capsys: Any, tmp_path: Path, random: Random) -> None:
    graph = network(
        {"a": random(1, 8), "b": random(1, 8)},
        {"w": random(8, 4)},
        ("s", "add", "a b"),
        ("y", "matmul", "s w"),
    )
    write_model(tmp_path / "two.bin", graph)
    against = ["--against", "onnxruntime"] if importlib.util.find_spec("onnxruntime") else []
    status, out = bench(
        capsys, str(tmp_path / "two.bin"), "--threads", "1", "--seconds", "0.02", "--json", *against
    )
    assert status == 0
    assert all(row["runs"] and not row["failed"] for row in json.loads(out))


def test_wrong_usage(capsys: Any, tmp_path: Path) -> None:
    assert bench(capsys, LENET5, "--against", "cnnrt")[0] == 2
    assert "none of onnxruntime, openvino" in bench(capsys, LENET5, "--against", "x")[1]
    assert bench(capsys, LENET5, "--threads", "1,0")[0] == 2
    status = cli.main(["bench", str(tmp_path / "no.bin")])
    assert status == 1
    assert "no such file" in capsys.readouterr().err
    assert cli.main(["bench", LENET5, "--input", "1x3x28x28"]) == 1
    assert "takes shape" in capsys.readouterr().err


def test_an_engine_that_fails_says_why(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((1, 1, 28, 28), np.float32))
    np.save(tmp_path / "y.npy", np.zeros((1, 10), np.float32))
    worker = Worker("cnnrt", 1)
    try:
        source = {"onnx": str(tmp_path / "absent.onnx"), "shape": [1, 1, 28, 28]}
        with pytest.raises(WorkerError, match=r"FormatError.*no such file"):
            worker.ask("load", source=source, input=tmp_path / "x.npy", ref=tmp_path / "y.npy")
        worker.process.kill()
        with pytest.raises(WorkerError, match="the process ended with -9"):
            worker.ask("memory")
    finally:
        worker.close()
