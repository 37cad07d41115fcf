"""The methods of a model that say what its numbers mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import classification, feeds
from ..classification import Scores
from ..errors import GraphError
from ..graph import Array
from ..preprocessing.steps import ImageChannels
from ..process.locks import importing
from .network import MAX_DETECTIONS, Classifier, Network, PictureNetwork, Thresholds

if TYPE_CHECKING:
    from .embed import Embeddings
    from .upscale import PixelType, Upscaled


class TaskMethods:
    """Methods of `Model` that turn its outputs into what they mean."""

    def classify(
        self: Classifier, image: Any, top: int = 5, channels: ImageChannels = "RGB"
    ) -> Any:
        """The `top` likeliest classes of an image, likeliest first.

        Args:
            image: a path, a PIL image, or a uint8 array H x W, H x W x 3 or H x W x 4. Several come
                as a list of these.
            top: number of classes.
            channels: the order of colours in arrays: "RGB", or "BGR" as OpenCV's frames have it.

        Returns:
            A list of `Classification`; for several images a list of such lists.

        Raises:
            ImageError: it cannot be read as an image.
            GraphError: the model does not say how an image becomes its input.
            ShapeError: the network has no score for each class of an image.
        """
        several = feeds.as_batch(image)
        rows = classification.scores_of_images(
            lambda x: self.run(x, outputs=[self.graph.outputs[0].name]),
            lambda images: self.input_from(images, channels),
            [image] if several is None else several,
            self.graph.inputs[0].shape[0],
        )
        found = [self.classes(row, top) for row in rows]
        return found[0] if several is None else found

    def classes(self: Classifier, scores: Array, top: int = 5) -> Any:
        """The `top` likeliest classes by the network's scores (or probabilities).

        Args:
            scores: (classes,) or (1, classes) of one image, (N, classes) of several; axes of 1 may
                follow.
            top: number of classes.

        Returns:
            A list of `Classification`, empty if there are no scores; for several images a list of
            such lists.

        Raises:
            ShapeError: there is not one score per class.
        """
        return classification.classes(scores, top, self.labels, self.kind_of_scores)

    @property
    def kind_of_scores(self: Classifier) -> Scores:
        """The kind of scores in the first output.

        It is "probabilities" if the network ends in a softmax or a sigmoid, "logits of each class"
        if it is `multi_label`, otherwise "logits".
        """
        return classification.kind_of_scores(self.graph, multi_label=self.multi_label)

    def input_from(self: Network, image: Any, channels: ImageChannels = "RGB") -> Array:
        """The network's input for one image or several, by the model's preprocessing.

        Args:
            image: a path, a PIL image, or a uint8 array H x W, H x W x 3 or H x W x 4. Several come
                as a list of these.
            channels: the order of colours in arrays: "RGB", or "BGR" as OpenCV's frames have it.

        Returns:
            float32 (N, C, h, w), in the input's own layout and dtype; N is 1 for one image.

        Raises:
            ImageError: it cannot be read as an image.
            GraphError: the model does not say how an image becomes its input.
        """
        if self.preprocessing is None:
            raise GraphError(
                "this model does not say how an image becomes its input. Say it when the file is "
                "made (cnnrt convert --preset imagenet; export(preprocessing=...)) or now: "
                "model.preprocessing = cnnrt.Preprocessing.preset('imagenet')"
            )
        return feeds.of_images(self.graph.inputs[0], self.preprocessing(image, channels))

    def detect(
        self: Network,
        image: Any,
        min_score: float = 0.25,
        *,
        max_overlap: float | None = None,
        max_detections: int = MAX_DETECTIONS,
        class_agnostic: bool | None = None,
        channels: ImageChannels = "RGB",
    ) -> Any:
        """The things in an image, each with a box, a class and a score, best first.

        A network that segments things or finds keypoints detects too.

        Args:
            image: a path, a PIL image, or a uint8 array H x W, H x W x 3 or H x W x 4. Several come
                as a list of these.
            min_score: a thing must have a higher score, from 0 to 1.
            max_overlap: of two boxes of a class that overlap more, the better one stays. It is
                their intersection over their union. None: as the model's task says, or as is usual
                in its family.
            max_detections: the number of things in an image, at most.
            class_agnostic: a box also excludes those of other classes; None: as the task says.
            channels: the order of colours in arrays: "RGB", or "BGR" as OpenCV's frames have it.

        Returns:
            `Detections`; for several images a list of them.

        Raises:
            ImageError: it cannot be read as an image.
            GraphError: the model has another task, or does not say how an image becomes its input.
            ShapeError: the outputs are not of the family that the task names.
            ValueError: a threshold is out of range.
        """
        limits = Thresholds(min_score, max_overlap, max_detections, class_agnostic)
        with importing:
            from .running import found  # noqa: PLC0415  (not needed to run a network)

        return found(self, "detect", image, limits, channels)

    def segment(
        self: Network,
        image: Any,
        min_score: float = 0.25,
        *,
        max_overlap: float | None = None,
        max_detections: int = MAX_DETECTIONS,
        class_agnostic: bool | None = None,
        channels: ImageChannels = "RGB",
    ) -> Any:
        """The things in an image, each with the mask of its pixels.

        The arguments and the errors are those of `detect`.

        Returns:
            `Detections` with `masks`; for several images a list of them.
        """
        limits = Thresholds(min_score, max_overlap, max_detections, class_agnostic)
        with importing:
            from .running import found  # noqa: PLC0415  (as above)

        return found(self, "segment", image, limits, channels)

    def pose(
        self: Network,
        image: Any,
        min_score: float = 0.25,
        *,
        max_overlap: float | None = None,
        max_detections: int = MAX_DETECTIONS,
        class_agnostic: bool | None = None,
        channels: ImageChannels = "RGB",
    ) -> Any:
        """The things in an image, each with its keypoints, such as the joints of a person.

        The arguments and the errors are those of `detect`.

        Returns:
            `Detections` with `keypoints`; for several images a list of them.
        """
        limits = Thresholds(min_score, max_overlap, max_detections, class_agnostic)
        with importing:
            from .running import found  # noqa: PLC0415  (as above)

        return found(self, "pose", image, limits, channels)

    def upscale(
        self: PictureNetwork,
        image: Any,
        *,
        tile: int | None = None,
        dtype: PixelType = "uint8",
        channels: ImageChannels = "RGB",
    ) -> Upscaled:
        """A larger picture, by a network for super-resolution, from a picture of any size.

        A picture that is larger than a tile is cut into tiles, which overlap by the network's
        receptive field. The result is that of one run of the whole picture, up to rounding.

        Args:
            image: a path, a PIL image, or a uint8 array H x W, H x W x 3 or H x W x 4.
            tile: pixels of a tile's side; None: as many as take about 200 MB.
            dtype: that of the result's pixels: "uint8", or "float32" from 0 to 1.
            channels: the order of colours in an array: "RGB", or "BGR" as OpenCV's frames have it.

        Returns:
            `Upscaled`, with `pixels` (H scale, W scale, 3), and `image` for Pillow.

        Raises:
            ImageError: it cannot be read as an image.
            GraphError: the network makes no larger picture of a picture, or the model does not say
                how pixels become its input.
            ShapeError: the result takes more memory than there is.
            ValueError: `tile`, `dtype` or `channels` is out of range.
        """
        with importing:
            from .upscale import upscale  # noqa: PLC0415  (as above)

        return upscale(self, self._reach(), image, tile=tile, dtype=dtype, channels=channels)

    def embed(self: PictureNetwork, image: Any, *, channels: ImageChannels = "RGB") -> Embeddings:
        """Vectors by which pictures can be compared.

        They are the network's output or, if it is a classifier, what its classifier reads. The
        vectors have length 1, so the product of two is their cosine.

        Args:
            image: a path, a PIL image, or a uint8 array H x W, H x W x 3 or H x W x 4. Several come
                as a list of these.
            channels: the order of colours in arrays: "RGB", or "BGR" as OpenCV's frames have it.

        Returns:
            `Embeddings`, with `vectors` float32 (N, D), and `similarity`; N is 1 for one image.

        Raises:
            ImageError: it cannot be read as an image.
            GraphError: the model does not say how an image becomes its input.
            ShapeError: the network has no vector for a picture.
        """
        with importing:
            from .embed import embed  # noqa: PLC0415  (as above)

        return embed(self, self._features(), image, channels)
