"""A model of Triton's Python backend that runs by cnnrt.

Names of tensors are those of config.pbtxt, in the order of the network's.
"""

import json

import numpy as np
import triton_python_backend_utils as pb_utils  # given by Triton

import cnnrt


class TritonPythonModel:
    """Loads the file that the parameter `model` names."""

    def initialize(self, args):
        config = json.loads(args["model_config"])
        self.model = cnnrt.load(config["parameters"]["model"]["string_value"])
        self.inputs = [tensor["name"] for tensor in config["input"]]
        self.outputs = [tensor["name"] for tensor in config["output"]]

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        arrays = [pb_utils.get_input_tensor_by_name(request, n).as_numpy() for n in self.inputs]
        names = [spec.name for spec in self.model.inputs]
        try:
            y = self.model(dict(zip(names, arrays, strict=True)))
        except cnnrt.CnnrtError as error:
            return pb_utils.InferenceResponse([], error=pb_utils.TritonError(str(error)))
        results = list(y.values()) if isinstance(y, dict) else [y]
        return pb_utils.InferenceResponse(
            [
                pb_utils.Tensor(name, np.ascontiguousarray(result))
                for name, result in zip(self.outputs, results, strict=True)
            ]
        )
