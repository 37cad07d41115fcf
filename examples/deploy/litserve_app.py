"""A LitServe application: `pip install litserve`, then `python litserve_app.py model.bin`."""

import base64
import io
import sys

import litserve
from PIL import Image

import cnnrt


class Classifier(litserve.LitAPI):
    """Takes {"image": base64}, gives the likeliest classes."""

    def setup(self, device):
        self.model = cnnrt.load(sys.argv[1])

    def decode_request(self, request):
        return Image.open(io.BytesIO(base64.b64decode(request["image"])))

    def predict(self, image):
        return self.model.classify(image)

    def encode_response(self, classes):
        return {"classes": [{"label": c.label, "probability": c.probability} for c in classes]}


if __name__ == "__main__":
    litserve.LitServer(Classifier(), accelerator="cpu").run(port=8000)
