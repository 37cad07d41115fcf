"""A BentoML service: `CNNRT_MODEL=model.bin bentoml serve bentoml_service.py`."""

import os

import bentoml
from PIL.Image import Image

import cnnrt


@bentoml.service(traffic={"timeout": 30})
class Classifier:
    """Gives the likeliest classes of an image."""

    def __init__(self) -> None:
        self.model = cnnrt.load(os.environ["CNNRT_MODEL"])

    @bentoml.api
    def classify(self, image: Image, top: int = 5) -> list[dict[str, object]]:
        found = self.model.classify(image, top)
        return [{"label": c.label, "probability": c.probability} for c in found]
