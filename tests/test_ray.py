"""`cnnrt.ray`: datasets, a table by a cluster's tasks, a deployment."""

from __future__ import annotations

import json
import shutil
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ray = pytest.importorskip("ray")
pytest.importorskip("pandas")

import cnnrt  # noqa: E402
import cnnrt.ray  # noqa: E402
from cnnrt import cli  # noqa: E402
from cnnrt.offline.job import Job  # noqa: E402
from cnnrt.offline.model_file import ModelFile  # noqa: E402
from cnnrt.progress import progress_bar  # noqa: E402
from scripts import environment  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own

EXAMPLES = Path(__file__).parent.parent / "examples"
LENET = EXAMPLES / "lenet5.bin"
DIGITS = sorted((EXAMPLES / "digits").glob("*.png"))


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    variables = {"PYTHONPATH": environment()["PYTHONPATH"]}
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": variables},
    )
    yield
    ray.shutdown()


def rows_of(dataset: Any) -> list[dict[str, Any]]:
    return sorted(dataset.take_all(), key=lambda row: row["path"])


def test_datasets_of_pictures_files_and_bytes() -> None:
    model = cnnrt.load(LENET)
    labels = [model.classify(f, 1)[0].label for f in DIGITS]
    shared = cnnrt.ray.put(LENET)
    folder = str(EXAMPLES / "digits")
    options: dict[str, Any] = {
        "batch_size": 4,
        "num_cpus": 1,
        "compute": ray.data.ActorPoolStrategy(size=1),
    }
    pictures = ray.data.read_images(folder, include_paths=True, file_extensions=["png"])
    files = ray.data.read_binary_files(folder, include_paths=True, file_extensions=["png"])
    for dataset, column in ((pictures, "image"), (files, "bytes")):
        classes = dataset.map_batches(
            cnnrt.ray.Predictor,
            fn_constructor_args=[shared],
            fn_constructor_kwargs={"column": column},
            **options,
        )
        found = rows_of(classes)
        assert [row["label"] for row in found] == labels
        assert {row["error"] for row in found} == {""}
        assert column not in found[0]
    features = files.map_batches(
        cnnrt.ray.Predictor, fn_constructor_args=[str(LENET), "features"], **options
    )
    expected = cnnrt.FeatureExtractor(LENET)(DIGITS)
    assert np.array_equal([row["features"] for row in rows_of(features)], expected)


def test_arrays_are_the_networks_input() -> None:
    model = cnnrt.load(LENET)
    x = model.input_from(DIGITS)
    predict = cnnrt.ray.Predictor(cnnrt.ray.put(model), [model.outputs[0].name], column="data")
    found = predict({"data": x, "n": np.arange(10)})
    assert np.array_equal(found[model.outputs[0].name], model(x))
    assert np.array_equal(found["n"], np.arange(10))
    paths = np.array([str(f) for f in DIGITS], object)
    assert "path" in cnnrt.ray.Predictor(LENET)({"path": paths})
    with pytest.raises(KeyError, match="no column"):
        predict({"other": x})


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(40):
        shutil.copy(DIGITS[i % 10], folder / f"{i:03}.png")
    (folder / "007.png").write_bytes(b"none")
    return folder


def test_the_table_is_that_of_the_local_engine(photos: Path, tmp_path: Path) -> None:
    tables = []
    for engine in ("local", "ray"):
        path = tmp_path / f"{engine}.jsonl"
        arguments = [str(LENET), str(photos), "--engine", engine, "--shard", "8"]
        assert cli.main(["run", *arguments, "--output", str(path)]) == 1
        tables.append(path.read_text())
    assert tables[0] == tables[1]
    assert len(tables[0].splitlines()) == 40


def test_a_killed_worker_costs_only_time(photos: Path, tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    model = ModelFile(LENET)
    left = tmp_path / "left"

    def classify_or_die(model: Any, files: list[str], top: int, threads: int) -> Any:
        import os
        import signal

        from cnnrt.offline.job import classify_files

        if not left.exists():
            left.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return classify_files(model, files, top, threads)

    with cnnrt.ray.Cluster(model, 5) as engine, progress_bar(40) as bar:
        engine._classify = ray.remote(num_cpus=1, max_retries=0)(classify_or_die)
        assert Job(model, [photos], path, shard=8).run(engine, bar) == 40
    assert left.exists()
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [Path(row["image"]).name for row in rows if row["error"]] == ["007.png"]


def test_a_deployment_serves_the_protocol() -> None:
    serve = pytest.importorskip("ray.serve")
    serve.start(http_options={"port": 18423})
    try:
        serve.run(cnnrt.ray.deployment(str(LENET)), route_prefix="/", name="cnnrt")
        at = "http://127.0.0.1:18423/v2/models/lenet5"
        for _ in range(100):
            try:
                with urllib.request.urlopen(f"{at}/ready", timeout=10):
                    break
            except urllib.error.HTTPError:
                continue
        with urllib.request.urlopen(at, timeout=10) as answer:
            assert json.load(answer)["platform"] == "cnnrt"
        data = DIGITS[3].read_bytes()
        with urllib.request.urlopen(f"{at}/classify?top=1", data, timeout=10) as answer:
            (found,) = json.load(answer)["classes"]
        assert found["label"] == cnnrt.load(LENET).classify(DIGITS[3], 1)[0].label
    finally:
        serve.shutdown()
