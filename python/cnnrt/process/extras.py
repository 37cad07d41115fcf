"""Packages that only some commands need: a check for them, and the line to install them.

The line to install names the packages themselves. It works in any environment: beside a checkout,
beside a wheel, and on a machine that trains and has no cnnrt.
"""

from __future__ import annotations

from importlib.util import find_spec

PACKAGES = {
    "onnx": ("onnx>=1.17", "onnx"),
    "jinja2": ("jinja2", "html"),
    "sklearn": ("scikit-learn>=1.3", "adapt"),
    "torch": ("torch>=2.6", "torch"),
    "onnxscript": ("onnxscript", "torch"),
    "supervision": ("supervision>=0.20", "supervision"),
    "pycocotools": ("pycocotools", "evaluate"),
    "av": ("av>=14", "video"),
    "torchvision": ("torchvision", ""),
    "timm": ("timm", ""),
    "pyarrow": ("pyarrow", "parquet"),
    "pandas": ("pandas", "spark"),
    "pyspark": ("pyspark>=3.5", "spark"),
    "ray": ("ray[data,serve]>=2.40", "ray"),
    "onnxruntime": ("onnxruntime>=1.20", ""),
}
"""The requirement that pip installs for a module, and the extra of cnnrt that has it."""


def present(module: str) -> bool:
    """True if a module can be imported; does not import it."""
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def install_line(*modules: str) -> str:
    """The command that installs the packages of these modules."""
    return "pip install " + " ".join(
        f"'{requirement}'" if ">" in requirement else requirement
        for requirement in (PACKAGES.get(module, (module, ""))[0] for module in modules)
    )


def missing(purpose: str, module: str, error: BaseException | None = None) -> str:
    """The text of an ImportError: the purpose of a module, and the way to install it."""
    line = f"{purpose} needs {module}: {install_line(module)}"
    if error is not None and present(module):
        return f"{purpose} needs {module}, which cannot be imported here: {error}"
    return line


def require(purpose: str, *modules: str) -> None:
    """Checks that modules are there, before work begins.

    Raises:
        ImportError: one is not.
    """
    absent = [module for module in modules if not present(module)]
    if absent:
        names = " and ".join(absent)
        raise ImportError(f"{purpose} needs {names}: {install_line(*absent)}")
