"""The metadata of a model file beside the graph: what its numbers mean, as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ..graph import Graph
from ..preprocessing import Preprocessing
from ..storage import validate
from ..tasks.task import Task
from .compiled import Compiled


class Document(NamedTuple):
    """The content of a model file."""

    graph: Graph
    preprocessing: Preprocessing | None
    labels: list[str] | None
    metadata: dict[str, Any]
    """`notice` and `producer`, if the file has them, and the entries of other tools."""
    compiled: Compiled | None = None
    multi_label: bool = False
    """True if several classes may hold at once; see `cnnrt.export`."""
    task: Task | None = None
    """The task that the file states."""


def described(graph: Graph, metadata: Mapping[str, str], at: str) -> Document:
    """A graph with the metadata of its file, which `metadata_of` made.

    Raises:
        FormatError: they are damaged.
    """
    return Document(
        graph,
        preprocessing=_preprocessing(metadata, at),
        labels=labels_of(metadata, at),
        metadata=_others(metadata, at),
        multi_label=parsed(metadata, "multi_label", at) is True,
        task=_task(metadata, at),
    )


def metadata_of(
    *,
    preprocessing: Preprocessing | None,
    labels: Sequence[str] | None,
    notice: str | None,
    multi_label: bool = False,
    task: Task | None = None,
) -> dict[str, str]:
    """A file's metadata beside the graph; what is None or False is left out."""
    documents = {
        "preprocessing": preprocessing and preprocessing.to_json(),
        "labels": None if labels is None else list(labels),
        "notice": notice,
        "multi_label": multi_label or None,
        "task": task and task.to_json(),
    }
    return {f"cnnrt.{k}": dumps(v) for k, v in documents.items() if v is not None}


def dumps(document: Any) -> str:
    """JSON without spaces."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def parsed(metadata: Mapping[str, str], key: str, at: str) -> Any:
    """The JSON of the entry `cnnrt.key`; None if the file has none."""
    text = metadata.get(f"cnnrt.{key}")
    return None if text is None else validate.parse_json(text, f"{at}: cnnrt.{key}")


def _preprocessing(metadata: Mapping[str, str], at: str) -> Preprocessing | None:
    document = parsed(metadata, "preprocessing", at)
    if document is None:
        return None
    return Preprocessing.from_json(document, f"{at}: cnnrt.preprocessing")


def _task(metadata: Mapping[str, str], at: str) -> Task | None:
    document = parsed(metadata, "task", at)
    return None if document is None else Task.from_json(document, f"{at}: cnnrt.task")


def labels_of(metadata: Mapping[str, str], at: str) -> list[str] | None:
    """Names of the classes; None if the file has none."""
    document = parsed(metadata, "labels", at)
    if document is None:
        return None
    return validate.listing(document, f"{at}: cnnrt.labels", validate.label)


def _others(metadata: Mapping[str, str], at: str) -> dict[str, Any]:
    """The rest of the metadata: cnnrt's own notes parsed, those of other tools as they are."""
    others: dict[str, Any] = {k: v for k, v in metadata.items() if not k.startswith("cnnrt.")}
    if (notice := parsed(metadata, "notice", at)) is not None:
        others["notice"] = validate.string(notice, f"{at}: cnnrt.notice")
    if (producer := parsed(metadata, "producer", at)) is not None:
        others["producer"] = validate.mapping(producer, f"{at}: cnnrt.producer", validate.string)
    return others
