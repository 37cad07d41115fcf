"""`import onnxruntime` for programs that require the package by this name: it is cnnrt's."""

from cnnrt.compat import install

install()
