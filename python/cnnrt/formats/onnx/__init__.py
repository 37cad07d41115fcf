"""The ONNX format: files into a Graph and back."""
