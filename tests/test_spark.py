"""`cnnrt.spark`: columns of images, paths and arrays become classes, features and tensors."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pyspark")
pytest.importorskip("pandas")
pytest.importorskip("pyarrow")
if shutil.which("java") is None:
    pytest.skip("Spark needs Java", allow_module_level=True)

from pyspark.sql import SparkSession

import cnnrt
import cnnrt.spark
from scripts import environment

pytestmark = pytest.mark.filterwarnings("ignore")  # Spark's own

EXAMPLES = Path(__file__).parent.parent / "examples"
LENET = EXAMPLES / "lenet5.bin"
DIGITS = sorted((EXAMPLES / "digits").glob("*.png"))


@pytest.fixture(scope="module")
def spark() -> Iterator[Any]:
    os.environ["PYSPARK_PYTHON"] = sys.executable
    os.environ["PYTHONPATH"] = environment()["PYTHONPATH"]
    session = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
    found = session.config("spark.log.level", "ERROR").getOrCreate()
    yield found
    found.stop()


def test_files_become_classes(spark: Any, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for file in DIGITS:
        shutil.copy(file, folder)
    (folder / "bad.png").write_bytes(b"none")
    images = spark.read.format("binaryFile").load(str(folder)).repartition(2)
    classify = cnnrt.spark.predict_udf(LENET, batch_size=4)
    found = images.select("path", classify("content").alias("found")).orderBy("path").collect()
    model = cnnrt.load(LENET)
    for row, file in zip(found, [*DIGITS, None], strict=True):
        if file is None:
            assert (row.found.label, row.found["index"]) == ("", -1)
            assert "Pillow" in row.found.error
            continue
        (best,) = model.classify(file, 1)
        # A row is a tuple, and `index` one of a tuple's methods.
        assert (row.found.label, row.found["index"]) == (best.label, best.index)
        assert row.found.error == ""
        assert row.found.probability == best.probability


def test_paths_become_features_and_arrays_tensors(spark: Any) -> None:
    model = cnnrt.load(LENET)
    x = model.input_from(DIGITS)
    paths = spark.createDataFrame([(str(f),) for f in DIGITS], "path string")
    features = cnnrt.spark.predict_udf(model, "features")
    found = [row[0] for row in paths.select(features("path")).collect()]
    assert np.array_equal(np.float32(found), cnnrt.FeatureExtractor(model)(DIGITS))
    arrays = spark.createDataFrame([(row.ravel().tolist(),) for row in x], "x array<float>")
    name = model.outputs[0].name
    scores = cnnrt.spark.predict_udf(model, name, input_shape=list(x.shape[1:]))
    found = [row[0] for row in arrays.select(scores("x")).collect()]
    assert np.array_equal(np.float32(found), model(x))


def test_a_model_is_sent_once(spark: Any) -> None:
    """A cluster refuses a second file of the same name from another path."""
    cnnrt.spark.predict_udf(LENET)
    folder = cnnrt.spark._folders[spark.sparkContext]
    sent, files = spark.sparkContext.listFiles, sorted(folder.iterdir())
    cnnrt.spark.predict_udf(cnnrt.load(LENET), "features")
    assert spark.sparkContext.listFiles == sent
    assert sorted(folder.iterdir()) == files
    assert len({Path(file).name for file in sent}) == len(sent)


def test_without_a_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SparkSession, "getActiveSession", lambda: None)
    with pytest.raises(RuntimeError, match="session"):
        cnnrt.spark.predict_udf(LENET)
