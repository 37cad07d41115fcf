"""cnnrt on a Ray cluster: a class for `Dataset.map_batches`, and a deployment of Ray Serve.

    import cnnrt.ray, ray

    model = cnnrt.ray.put("model.bin")
    images = ray.data.read_images("photos/", include_paths=True)
    classes = images.map_batches(
        cnnrt.ray.Predictor, fn_constructor_args=[model], batch_size=64, num_cpus=1,
        compute=ray.data.ActorPoolStrategy(size=8),
    )

Needs the extra `ray`, here and on each machine of the cluster.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from .formats import Source
from .model import Model
from .offline.job import Row, classify_files
from .offline.model_file import ModelFile
from .offline.predictor import Predictor as _Predictor
from .process.extras import require

require("cnnrt.ray", "ray")

import ray  # noqa: E402


def put(model: Model | Source) -> ray.ObjectRef[ModelFile]:
    """Compiles a model and puts it into the cluster's object store.

    Each machine writes it to its cache folder once, and its processes share the mapped weights.

    Raises:
        FormatError, UnsupportedOperator: see `cnnrt.load`.
    """
    return ray.put(ModelFile(model))


class Predictor:
    """A network on the batches of a dataset: images or arrays to classes, features or tensors.

    Give it to `Dataset.map_batches` with `num_cpus=1`, the number of its threads.
    """

    def __init__(
        self,
        model: Any,
        output: str | Sequence[str] = "label",
        *,
        column: str | None = None,
        threads: int = 1,
    ) -> None:
        """Loads the network in a worker of the cluster.

        Args:
            model: what `put` gave, a path that each machine has, or a model.
            output: "label", "features" or a list of tensors, as in `cnnrt.offline.Predictor`.
            column: the column with the images: arrays of uint8, bytes of image files, or paths; or
                with the network's inputs. None: the first of image, bytes, path, data, item.
            threads: threads of each run.

        Raises:
            FormatError, GraphError, ValueError: see `cnnrt.offline.Predictor`.
        """
        given = ray.get(model) if isinstance(model, ray.ObjectRef) else model
        self._predict = _Predictor(given, output, threads=threads)
        self._column = column

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The batch's columns but the one of images, and those of `cnnrt.offline.Predictor`. A
        column of paths stays.

        Args:
            batch: arrays of N rows by name, as `batch_format="numpy"` gives them.

        Raises:
            KeyError: there is no such column.
            ShapeError: an array is not what the network takes.
        """
        known = [c for c in ("image", "bytes", "path", "data", "item") if c in batch]
        column = self._column or (known[0] if known else "image")
        if column not in batch:
            raise KeyError(f"no column {column!r} in the batch; there are {', '.join(batch)}")
        images = batch[column]
        paths = len(images) > 0 and isinstance(images[0], str)
        kept = {name: v for name, v in batch.items() if paths or name != column}
        return kept | self._predict(images)


def deployment(
    *models: str | os.PathLike[str],
    threads: int = 1,
    max_batch: int = 8,
    max_delay: float = 0.002,
    queue: int = 64,
    timeout: float = 30.0,
    **options: Any,
) -> Any:
    """An application for `ray.serve.run`: the server of `python -m cnnrt serve` in each replica.

    Args:
        models: model files, and folders of them, that each machine has under these paths.
        threads: threads of each model's runs, and the CPUs that Ray reserves for a replica.
        max_batch: rows of a merged run.
        max_delay: seconds that a request waits for others.
        queue: requests of a model that may wait; further ones get status 429.
        timeout: seconds to an answer.
        options: of `ray.serve.deployment`, such as `num_replicas`.

    Raises:
        ImportError: the extra `serve`, or Ray Serve, is missing.
    """
    require("cnnrt.ray.deployment", "fastapi", "starlette", "prometheus_client")
    from ray import serve  # noqa: PLC0415  (a part of Ray with requirements of its own)

    from .serving.app import application  # noqa: PLC0415
    from .serving.settings import Settings  # noqa: PLC0415

    settings = Settings(
        models=tuple(os.path.abspath(model) for model in models),  # noqa: PTH100
        threads=threads,
        max_batch=max_batch,
        max_delay=max_delay,
        queue=queue,
        timeout=timeout,
    )
    defaults = {"name": "cnnrt", "ray_actor_options": {"num_cpus": threads}}

    def build() -> Any:  # Ray Serve takes only a function for one that makes the application
        return application(settings)

    ingress = serve.ingress(build)
    return serve.deployment(**{**defaults, **options})(ingress(_Replica)).bind()


class _Replica:
    """The class that Ray Serve makes an ASGI server of."""


class Cluster:
    """The engine of `cnnrt run --engine ray`: a task of one CPU for each shard."""

    def __init__(
        self, model: ModelFile, top: int, address: str | None = None, threads: int = 1
    ) -> None:
        """Connects to a cluster; use it as a context manager.

        Args:
            model: the network.
            top: classes of a row.
            address: of the cluster, as `ray.init` takes it; None: `RAY_ADDRESS`, or a cluster of
                this machine that ends with this process.
            threads: threads of a task, and its CPUs.
        """
        self._own = not ray.is_initialized()
        if self._own:
            ray.init(address=address, log_to_driver=False, logging_level="warning")
        self._model = ray.put(model)
        self._options = (top, threads)
        # Tasks whose process ends come back, so that a picture that ends them can be found.
        self._classify = ray.remote(num_cpus=threads, max_retries=0)(classify_files)
        self._tasks: dict[Any, int] = {}

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        if self._own:
            ray.shutdown()

    @property
    def slots(self) -> int:
        """Two tasks for each that can run, so that none waits for the next."""
        return 2 * max(1, int(ray.cluster_resources().get("CPU", 1)) // self._options[1])

    def submit(self, key: int, files: Sequence[str]) -> None:
        self._tasks[self._classify.remote(self._model, list(files), *self._options)] = key

    def wait(self) -> tuple[int, list[Row] | None]:
        (ready, *_), _ = ray.wait(list(self._tasks), num_returns=1)
        key = self._tasks.pop(ready)
        try:
            return key, ray.get(ready)
        except (
            ray.exceptions.WorkerCrashedError,
            ray.exceptions.NodeDiedError,
            ray.exceptions.OutOfMemoryError,
            ray.exceptions.ObjectLostError,
        ):
            return key, None
