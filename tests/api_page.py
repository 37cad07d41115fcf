"""Writes docs/api.md from signatures and docstrings: `python tests/api_page.py`.

The page is kept in the repository, so that it can be read in a checkout.
`tests/test_pages_of_docs.py` compares it with what this script makes.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from pathlib import Path
from types import ModuleType
from typing import Any

import cnnrt
from cnnrt.analysis.profiling import Profile
from cnnrt.analysis.summary import Summary
from cnnrt.evaluation.answers import Measured
from cnnrt.evaluation.classes import ClassEvaluation
from cnnrt.evaluation.coco import CocoEvaluation, Precision
from cnnrt.planning.memory_use import MemoryUse
from cnnrt.quantization import (
    Changed,
    LayerReport,
    Quantization,
    TensorReport,
    post_training,
)
from cnnrt.tasks.embed import Embeddings
from cnnrt.tasks.upscale import Upscaled

PAGE = Path(__file__).parent.parent / "docs" / "api.md"
HEAD = """# Python

Every public name of `cnnrt`, and the classes that its methods return. The docstrings are the source
of this page; `python tests/api_page.py` writes it.
"""
SECTIONS: dict[str, tuple[Any, ...]] = {
    "Loading and running": ("load", "Model", "Classification", "TensorSpec"),
    "Detection, segmentation and pose": ("Task", "Detections", "Detection", "Segmentation"),
    "Larger pictures, and vectors": (Upscaled, Embeddings),
    "Images": ("Preprocessing", "image_files"),
    "Videos": ("video",),
    "What a model tells": (Summary, Profile, MemoryUse),
    "Settings of the process": (
        *("set_num_threads", "get_num_threads", "set_threading", "get_threading"),
        *("set_memory_limit", "set_work_limit"),
    ),
    "From PyTorch": ("export",),
    "Features and new heads": ("FeatureExtractor", "adapt", "Adaptation", Measured),
    "Measuring": (
        *("evaluate_classes", ClassEvaluation, "evaluate_coco", CocoEvaluation, Precision),
    ),
    "In 8 bits": ("quantize", post_training, Quantization, LayerReport, TensorReport, Changed),
    "What an answer comes from": ("activation_map", "ActivationMap"),
    "Kernels alone": ("kernels",),
    "Errors and warnings": (
        *("CnnrtError", "FormatError", "UnsupportedOperator", "GraphError", "ShapeError"),
        *("ImageError", "MemoryLimitError", "WorkLimitError", "OpenMPError"),
        *("PreprocessingWarning", "MissingKernelWarning"),
    ),
}
"""The names of `cnnrt.__all__` in reading order, and classes that only methods return."""

WIDTH = 88
_LABEL = re.compile(r"^(Args|Attributes|Returns|Raises|Raises \(all functions\)):$")


def page() -> str:
    parts = [HEAD]
    for title, entries in SECTIONS.items():
        parts.append(f"## {title}\n")
        for entry in entries:
            value = getattr(cnnrt, entry) if isinstance(entry, str) else entry
            name = f"cnnrt.{entry}" if isinstance(entry, str) else entry.__name__
            parts.extend(_module(value) if isinstance(value, ModuleType) else _entry(name, value))
    return "\n".join(parts)


def _entry(name: str, value: Any) -> list[str]:
    if not inspect.isclass(value):
        return [f"### {name}\n", _code(name, value), _text(value)]
    if issubclass(value, Exception):
        bases = ", ".join(f"`{base.__name__}`" for base in value.__bases__)
        return [f"### {name}\n", f"A subclass of {bases}.\n", _text(value)]
    parts = [f"### {name}\n"]
    if not value.__name__.startswith("_") and "__init__" in vars(value):
        parts.append(_code(name, value))
    parts.append(_text(value))
    fields = _fields(value)
    if fields:
        parts.append("Fields:\n")
        parts.append(
            "\n".join(f"* `{field}`" + (f": {doc}" if doc else "") for field, doc in fields) + "\n"
        )
    for member, function in _members(value).items():
        if member.startswith("_") and member != "__call__":
            continue
        shown = f"{name.rpartition('.')[2]}.{member}"
        if isinstance(function, property):
            parts += [f"#### {shown}\n", _text(function)]
        elif isinstance(function, classmethod | staticmethod):
            parts += [f"#### {shown}\n", _code(shown, function.__func__), _text(function.__func__)]
        elif inspect.isfunction(function):
            call = name.rpartition(".")[2].lower() if member == "__call__" else shown
            parts += [f"#### {shown}\n", _code(call, function), _text(function)]
    return parts


def _members(class_: type) -> dict[str, Any]:
    """A class's own members, and those of the classes of this package that it is made of."""
    own = [base for base in class_.__mro__ if base.__module__.startswith("cnnrt.")]
    return {name: member for base in own for name, member in vars(base).items()}


def _module(module: ModuleType) -> list[str]:
    parts = [f"### {module.__name__}\n", _text(module)]
    for name in module.__all__:
        value, shown = getattr(module, name), f"{module.__name__.removeprefix('cnnrt.')}.{name}"
        if inspect.isfunction(value):
            parts += [f"#### {shown}\n", _code(shown, value), _text(value)]
        elif inspect.isclass(value):
            parts += _entry(f"cnnrt.{shown}", value)
    return parts


def _code(name: str, value: Any) -> str:
    signature = inspect.signature(value)
    parameters, star = [], False
    for parameter in signature.parameters.values():
        if parameter.name in ("self", "cls"):
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not star:
            parameters.append("*")
            star = True
        text = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
        text += parameter.name
        if parameter.annotation is not parameter.empty:
            text += f": {_type(parameter.annotation)}"
        if parameter.default is not parameter.empty:
            text += f" = {parameter.default!r}"
        parameters.append(text)
    result = signature.return_annotation
    end = ")"
    if result is not signature.empty and not inspect.isclass(value):
        end += f" -> {_type(result)}"
    line = f"{name}({', '.join(parameters)}{end}"
    if len(line) > WIDTH:
        line = f"{name}(\n" + "".join(f"    {p},\n" for p in parameters) + end
    return f"```python\n{line}\n```\n"


def _type(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def _text(value: Any) -> str:
    """A docstring as Markdown: its sections become lists."""
    lines: list[str] = []
    label = ""
    for line in (inspect.getdoc(value) or "").splitlines():
        heading = _LABEL.match(line)
        if heading:
            label = heading[1]
            lines += [f"{label}:", ""]
        elif not label or not line.strip() or not line.startswith("    "):
            label = label if not line.strip() else ""
            lines.append(line)
        else:
            entry = re.match(r" {4}([\w, *]+): (.*)", line) if line[4:5] != " " else None
            if entry and label != "Returns":
                lines.append(f"* `{entry[1]}`: {entry[2]}")
            elif label == "Returns":
                lines.append(line[4:])
            else:
                lines.append("  " + line.strip())
    return "\n".join(lines).strip() + "\n"


def _fields(class_: type) -> list[tuple[str, str]]:
    """Annotated fields of a dataclass or named tuple, each with the string below it."""
    if "Attributes:" in (class_.__doc__ or ""):
        return []
    source = textwrap.dedent(inspect.getsource(class_))
    docs = _docs_of_variables(source)
    names = [name for name in vars(class_).get("__annotations__", {}) if not name.startswith("_")]
    return [(name, docs.get(name, "")) for name in names if name in docs]


def _docs_of_variables(source: str) -> dict[str, str]:
    docs: dict[str, str] = {}
    (body,) = [tree.body for tree in [ast.parse(source)]]
    if len(body) == 1 and isinstance(body[0], ast.ClassDef):
        body = body[0].body
    for statement, after in zip(body, [*body[1:], ast.Pass()], strict=True):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            name = statement.target.id
        elif isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            name = statement.targets[0].id
        else:
            continue
        documented = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
        docs[name] = " ".join(str(after.value.value).split()) if documented else ""
    return docs


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
