"""cnnrt on a Spark cluster: a column of images becomes a column of classes or features.

    import cnnrt.spark

    images = spark.read.format("binaryFile").load("photos/")
    classify = cnnrt.spark.predict_udf("model.bin")
    images.select("path", classify("content").alias("class")).write.parquet("classes")

Needs the extra `spark` here and on each machine.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from .formats import Source
from .model import Model
from .offline.model_file import ModelFile
from .offline.predictor import Predictor
from .process.extras import require

require("cnnrt.spark", "pyspark", "pandas", "pyarrow")

from pyspark import SparkFiles  # noqa: E402
from pyspark.ml.functions import predict_batch_udf  # noqa: E402
from pyspark.sql import SparkSession  # noqa: E402
from pyspark.sql.types import (  # noqa: E402
    ArrayType,
    DoubleType,
    FloatType,
    IntegerType,
    StringType,
    StructType,
)

CLASSES = (
    StructType()
    .add("label", StringType())
    .add("index", IntegerType())
    .add("probability", DoubleType())
    .add("error", StringType())
)
"""The column that `predict_udf` makes of images."""

_folders: WeakKeyDictionary[Any, Path] = WeakKeyDictionary()
"""The folder of the models sent, by SparkContext; it is removed with its context."""


def predict_udf(
    model: Model | Source,
    output: str = "label",
    *,
    input_shape: list[int] | None = None,
    batch_size: int = 64,
    threads: int = 1,
) -> Any:
    """A function of a column, over `pyspark.ml.functions.predict_batch_udf`.

    Spark copies the compiled model to each executor's folder once. All Python processes there map
    that file.

    Args:
        model: a loaded model, or a file.
        output: "label": a struct of `label`, `index`, `probability` and `error`. "features": an
            array of floats, as `cnnrt.FeatureExtractor` gives it. Or the name of a tensor, whose
            elements come as an array of floats.
        input_shape: shape of a row of the network's input, for a column of arrays of floats. None:
            the column has bytes of image files, or paths.
        batch_size: rows of a call.
        threads: threads of each run; Spark has a task for each core (`spark.task.cpus`).

    Raises:
        FormatError, UnsupportedOperator: see `cnnrt.load`.
        RuntimeError: there is no active Spark session.
    """
    session = SparkSession.getActiveSession()
    if session is None:
        raise RuntimeError("start a Spark session first")
    name = _send(session, ModelFile(model))
    outputs: Any = output if output in ("label", "features") else [output]

    def make() -> Callable[..., Any]:
        predict = Predictor(SparkFiles.get(name), outputs, threads=threads)

        def run(images: Any) -> Any:
            columns = predict(images)
            if output == "label":
                return columns
            values = columns[output]
            return values.reshape(len(values), -1)

        return run

    return predict_batch_udf(
        make,
        return_type=CLASSES if output == "label" else ArrayType(FloatType()),
        batch_size=batch_size,
        input_tensor_shapes=[input_shape] if input_shape else None,
    )


def _send(session: Any, model: ModelFile) -> str:
    """Has Spark copy a model to each executor, once; returns the name of the copy."""
    context = session.sparkContext
    folder = _folders.get(context)
    if folder is None:
        folder = _folders[context] = Path(tempfile.mkdtemp(prefix="cnnrt-spark-"))
        weakref.finalize(context, shutil.rmtree, folder, ignore_errors=True)
    path = folder / f"cnnrt-{model.digest}.bin"
    if not path.exists():  # Spark refuses a name that it has had from another path
        model.write(path)
        context.addFile(str(path))
    return path.name
