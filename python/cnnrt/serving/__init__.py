"""Serving models by the Open Inference Protocol, version 2, over HTTP and gRPC.

file --repository--> served model --batching--> runs --protocol--> answers

`python -m cnnrt serve` starts it. The protocol is that of
https://github.com/open-inference/open-inference-protocol, with Triton's extensions for binary
tensors and for the model repository. Needs the extra `serve`.
"""
