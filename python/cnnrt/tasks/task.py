"""The task of a network as plain data: its kind, the family of its outputs, and their numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ..errors import FormatError
from ..storage import validate

Kind = Literal["classify", "detect", "segment", "pose", "embed", "upscale"]
FAMILIES: dict[str, tuple[str, ...]] = {
    "classify": (),
    "detect": ("yolo", "yolox", "ssd", "detr", "retinanet", "torchvision", "scrfd", "db"),
    "segment": ("yolo", "torchvision", "semantic"),
    "pose": ("yolo", "torchvision"),
    "embed": (),
    "upscale": (),
}
"""The kinds of tasks, and the families of outputs that each may have. A kind without families has
one form of output."""
KINDS = tuple(FAMILIES)


def _integer(low: int, high: int) -> Callable[[Any, str], int]:
    return lambda value, at: validate.integer(value, at, low, high)


def _fraction(value: Any, at: str) -> float:
    number = validate.number(value, at)
    if not 0 <= number <= 1:
        validate.fail(at, "a number from 0 to 1", value)
    return number


def _factor(value: Any, at: str) -> float:
    number = validate.number(value, at)
    if not 0 < number <= 1024:
        validate.fail(at, "a number above 0, at most 1024", value)
    return number


def _truth(value: Any, at: str) -> bool:
    if not isinstance(value, bool):
        validate.fail(at, "true or false", value)
    return value


def _one_of(*options: str) -> Callable[[Any, str], str]:
    return lambda value, at: validate.choice(value, at, options)


def _integers(value: Any, at: str) -> list[int]:
    return validate.listing(value, at, _integer(1, 2**15))


def _names(value: Any, at: str) -> dict[str, str]:
    return validate.mapping(value, at, validate.name)


PARAMETERS: dict[str, Callable[[Any, str], Any]] = {
    "outputs": _names,
    "layout": _one_of("classes", "objectness", "selected", "indexed"),
    "classes": _integer(1, 2**20),
    "background": _integer(-1, 2**20),
    "units": _one_of("pixels", "fractions"),
    "order": _one_of("xyxy", "yxyx", "cxcywh"),
    "logits": _truth,
    "keypoints": _integer(1, 1000),
    "dimensions": _integer(2, 3),
    "coefficients": _integer(1, 1024),
    "strides": _integers,
    "max_overlap": _fraction,
    "class_agnostic": _truth,
    "threshold": _fraction,
    "unclip": _factor,
    "scale": _integer(1, 64),
    "normalised": _truth,
}
"""The parameters that a task may have, each with its check. docs/format.md lists their meanings."""


@dataclass(frozen=True)
class Task:
    """The task of a network, and how its outputs are to be read.

    It is plain data, which `model.bin` stores as JSON. Nothing of it is ever run as code.

    Attributes:
        kind: "classify", "detect", "segment", "pose", "embed" or "upscale".
        family: the form of the outputs, such as "yolo" or "detr"; empty: that of the kind, or as
            the outputs' shapes tell.
        parameters: numbers and names that the shapes of the outputs do not tell; docs/format.md
            lists them.

    Raises:
        ValueError: a field is unknown or out of range.
    """

    kind: Kind
    family: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        try:
            validate.choice(self.kind, "kind", KINDS)
            if self.family:
                _check_family(self.kind, self.family)
            checked = _parameters(self.parameters, "parameters")
        except FormatError as error:
            raise ValueError(str(error)) from None
        object.__setattr__(self, "parameters", checked)  # the way around `frozen`

    def get(self, parameter: str, default: Any) -> Any:
        """The value of a parameter; the default if the task does not state it."""
        return self.parameters.get(parameter, default)

    def to_json(self) -> dict[str, Any]:
        """The fields, as JSON has them; `from_json` reads them."""
        document: dict[str, Any] = {"kind": self.kind}
        if self.family:
            document["family"] = self.family
        if self.parameters:
            document["parameters"] = dict(self.parameters)
        return document

    @classmethod
    def from_json(cls, document: Any, at: str = "task") -> Task:
        """The reverse of `to_json`; `at` is for the errors.

        Raises:
            FormatError: a field is missing, unknown, of the wrong type or out of range.
        """
        table = validate.record(document, at, "kind", "family parameters")
        try:
            return cls(table["kind"], table.get("family", ""), table.get("parameters", {}))
        except ValueError as error:
            raise FormatError(f"{at}: {error}") from None

    @classmethod
    def of(cls, task: Task | str | Mapping[str, Any]) -> Task:
        """A task given as one, as its kind ("detect", or "detect/yolo" with the family), or as the
        dict of its JSON.

        Raises:
            ValueError: it is none.
        """
        if isinstance(task, Task):
            return task
        if isinstance(task, str):
            kind, _, family = task.partition("/")
            return cls(kind, family)  # type: ignore[arg-type]  # checked there
        try:
            return cls.from_json(dict(task))
        except FormatError as error:
            raise ValueError(str(error)) from None

    def __str__(self) -> str:
        return f"{self.kind}/{self.family}" if self.family else self.kind


def _check_family(kind: str, family: Any) -> None:
    known = FAMILIES[kind]
    if not known:
        validate.fail("family", f"no family for the task {kind!r}", family)
    validate.choice(family, f"family of the task {kind!r}", known)


def _parameters(value: Any, at: str) -> dict[str, Any]:
    table = validate.mapping(dict(value) if isinstance(value, Mapping) else value, at, _as_it_is)
    for key in table:
        if key not in PARAMETERS:
            validate.fail(at, "parameters of " + ", ".join(PARAMETERS), key)
    return {key: PARAMETERS[key](_plain(item), f"{at}: {key}") for key, item in table.items()}


def _as_it_is(value: Any, at: str) -> Any:  # noqa: ARG001  (the contract of a reader of items)
    return value


def _plain(value: Any) -> Any:
    """Tuples as lists, as JSON has them."""
    return list(value) if isinstance(value, tuple) else value
