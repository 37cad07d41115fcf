"""A network as a function from the columns of a batch to columns, for data frameworks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ..classification import CHUNK, Classification, is_scores
from ..errors import GraphError, ImageError
from ..feeds import as_input
from ..formats import Source
from ..graph import Array, TensorSpec
from ..images import decoded
from ..model import Model, load
from ..transfer.features import FeatureExtractor
from .model_file import ModelFile

Row = tuple[Array, ...]
"""The outputs for one image."""


class Predictor:
    """A network on batches of images or arrays: to classes, features or tensors.

    The results of an image have the same bits in any batch. An image that cannot be read gets a
    text in the column `error`, which is empty for all others, and does not stop the batch.

        predict = Predictor("model.bin")
        predict(["a.jpg", "b.jpg"])["label"]  # array(["espresso", "tabby"], dtype=object)
    """

    def __init__(
        self,
        model: Model | Source | ModelFile,
        output: str | Sequence[str] = "label",
        *,
        threads: int = 1,
    ) -> None:
        """Loads the network.

        Args:
            model: a loaded model, a file, or a `ModelFile` that came from another machine.
            output: "label": the likeliest class. "features": what `cnnrt.FeatureExtractor` gives,
                the input of the classifier. A list: tensors by their names, as `Model.run` has
                them.
            threads: threads of each run; frameworks start one task for each core.

        Raises:
            FormatError: the file cannot be read.
            GraphError: the network has several inputs, or does not end in a classifier, or has no
                such tensor.
            ValueError: `output` is another text.
        """
        if isinstance(model, ModelFile):
            model = model.load(threads)
        self.model = model if isinstance(model, Model) else load(model, threads=threads)
        if len(self.model.inputs) != 1:
            raise GraphError(f"batches have one column; this has {len(self.model.inputs)} inputs")
        if isinstance(output, str) and output not in ("label", "features"):
            raise ValueError(f'output is {output!r}; expected "label", "features" or a list')
        self.output = output if isinstance(output, str) else list(output)
        batch = self.model.inputs[0].shape[0]
        self._size = batch if isinstance(batch, int) else CHUNK
        self._fixed = isinstance(batch, int)
        self._run = self._runner()

    def _runner(self) -> Callable[[Array], list[Array]]:
        if self.output == "features":
            features = FeatureExtractor(self.model).model
            return lambda x: [features(x)]
        model = self.model
        names = [model.outputs[0].name] if self.output == "label" else list(self.output)
        known = {*model.graph.tensors(), *(spec.name for spec in model.outputs)}
        for name in names:
            if name not in known:
                raise GraphError(f"no tensor of this network is named {name!r}")

        def run(x: Array) -> list[Array]:
            found = model.run(x, outputs=names)
            return [found] if len(names) == 1 else [found[name] for name in names]

        return run

    def __call__(self, images: Any) -> dict[str, Array]:
        """The columns for a batch.

        Args:
            images: uint8 (N, H, W), (N, H, W, 1), (N, H, W, 3) or (N, H, W, 4); or a sequence of
                paths, bytes of image files, PIL images and arrays of uint8. An array of another
                dtype, (N, ...), is the network's input.

        Returns:
            Arrays of N rows by name. For "label" they are `label`, `index` (int32),
            `probability` (float64) and `error`. For "features" they are `features` and `error`,
            for a list the tensors by name and `error`. Texts have the dtype object. A bad image has
            the index -1, and NaN or 0 in the others.

        Raises:
            ShapeError: an array is not what the network takes.
            GraphError: the model does not say how an image becomes its input.
        """
        found = list(self._results(images))
        errors = [str(row) if isinstance(row, ImageError) else "" for row in found]
        columns = self._labels(found) if self.output == "label" else self._tensors(found, images)
        return {**columns, "error": np.array(errors, object)}

    def classes(self, images: Sequence[Any], top: int) -> list[list[Classification] | ImageError]:
        """The `top` likeliest classes of each image, or the error why it cannot be read.

        Args:
            images: as in a call.
            top: number of classes.

        Raises:
            GraphError: the model does not say how an image becomes its input.
        """
        return [
            row if isinstance(row, ImageError) else self.model.classes(row[0].reshape(-1), top)
            for row in self._results(images)
        ]

    def check(self) -> None:
        """Runs the network once on a grey picture.

        Raises:
            GraphError: the network takes no image, or has no score for each class.
        """
        shape = self._run(self._grey())[0].shape
        if not is_scores(shape):
            raise GraphError(
                f"a table of classes needs a score for each class; this network gives {list(shape)}"
            )

    # --------------------------------------------------------------------------------------------

    def _results(self, images: Any) -> Iterator[Row | ImageError]:
        """The outputs for each image, or the error why it cannot be read."""
        if _is_input(images, self.model):
            spec = self.model.inputs[0]
            images = as_input(
                TensorSpec(spec.name, ("images", *spec.shape[1:]), spec.dtype), images
            )
            prepare: Callable[[Any], Array] = _alone
        else:
            prepare = self._prepared
        for start in range(0, len(images), self._size):
            inputs: list[Array | ImageError] = []
            for image in images[start : start + self._size]:
                try:
                    inputs.append(prepare(image))
                except ImageError as error:
                    inputs.append(error)
            found = self._rows([x for x in inputs if not isinstance(x, ImageError)])
            yield from (x if isinstance(x, ImageError) else next(found) for x in inputs)

    def _prepared(self, image: Any) -> Array:
        if isinstance(image, (bytes, bytearray, memoryview)):
            image = decoded(bytes(image))
        return self.model.input_from(image)

    def _rows(self, inputs: Sequence[Array]) -> Iterator[Row]:
        if not inputs:
            return iter(())
        filling = [inputs[-1]] * (self._size - len(inputs) if self._fixed else 0)
        outputs = self._run(np.concatenate([*inputs, *filling]))
        return zip(*(y[: len(inputs)] for y in outputs), strict=True)

    def _grey(self) -> Array:
        """A run's input made of a grey picture.

        Raises:
            GraphError: the model does not say how an image becomes its input.
        """
        model = self.model
        size = model.preprocessing.size if model.preprocessing is not None else (1, 1)
        x = model.input_from(np.full(size, 128, np.uint8))
        return np.concatenate([x] * (self._size if self._fixed else 1))

    def _labels(self, found: Sequence[Row | ImageError]) -> dict[str, Array]:
        label = np.full(len(found), "", object)
        index = np.full(len(found), -1, np.int32)
        probability = np.full(len(found), np.nan)
        for i, row in enumerate(found):
            if not isinstance(row, ImageError):
                for best in self.model.classes(row[0].reshape(-1), 1):
                    label[i], index[i], probability[i] = best.label, best.index, best.probability
        return {"label": label, "index": index, "probability": probability}

    def _tensors(self, found: Sequence[Row | ImageError], images: Any) -> dict[str, Array]:
        names = ["features"] if isinstance(self.output, str) else self.output
        like = next((row for row in found if not isinstance(row, ImageError)), None)
        if like is None:  # the shapes of rows are still wanted
            x = self._grey()
            if _is_input(images, self.model):
                x = np.zeros((len(x), *images.shape[1:]), x.dtype)
            like = tuple(y[0] for y in self._run(x))
        columns = {}
        for i, (name, row) in enumerate(zip(names, map(np.asarray, like), strict=True)):
            empty = np.nan if row.dtype.kind == "f" else 0
            columns[name] = np.full((len(found), *row.shape), empty, row.dtype)
            for n, one in enumerate(found):
                if not isinstance(one, ImageError):
                    columns[name][n] = one[i]
        return columns


def _alone(row: Array) -> Array:
    return row[None]


def _is_input(images: Any, model: Model) -> bool:
    """True for an array that is the network's input, and not a batch of pictures."""
    if not isinstance(images, np.ndarray) or images.dtype.kind not in "biuf":
        return False
    return images.dtype != np.uint8 or model.preprocessing is None
