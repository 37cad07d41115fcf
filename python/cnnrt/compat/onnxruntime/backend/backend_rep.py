"""A session by the interface of `onnx.backend.base.BackendRep`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from onnx.backend.base import BackendRep

from ..options import RunOptions
from ..session import InferenceSession

ALLOWED = frozenset(
    {"log_severity_level", "log_verbosity_level", "logid", "only_execute_path_to_fetches"}
)
"""Options of a run that a caller of the backend may set: those that do not end it."""

Options = TypeVar("Options")


def with_attributes(
    options: Options, values: Mapping[str, Any], allowed: frozenset[str]
) -> Options:
    """The options with the attributes that may be set; unknown names are skipped.

    Raises:
        RuntimeError: an attribute exists and may not be set.
    """
    for name, value in values.items():
        if name in allowed:
            setattr(options, name, value)
        elif hasattr(options, name):
            raise RuntimeError(
                f"{type(options).__name__} attribute '{name}' is not permitted via the backend "
                f"API. Allowed attributes: {', '.join(sorted(allowed))}"
            )
    return options


class OnnxRuntimeBackendRep(BackendRep):  # type: ignore[misc,unused-ignore]
    """A model that is ready to run."""

    def __init__(self, session: InferenceSession) -> None:
        self._session = session

    def run(self, inputs: Any, **kwargs: Any) -> Any:
        """The outputs in order, as a list.

        Args:
            inputs: a list with a value for each input, or one value.
            kwargs: attributes of `RunOptions`; unknown names are skipped.

        Raises:
            RuntimeError: the number of inputs differs, or an attribute may not be set here.
        """
        options = with_attributes(RunOptions(), kwargs, ALLOWED)
        names = [spec.name for spec in self._session.get_inputs()]
        values = inputs if isinstance(inputs, list) else [inputs]
        if len(values) != len(names):
            raise RuntimeError(f"Model expect {len(names)} inputs, got {len(values)}")
        return self._session.run(None, dict(zip(names, values, strict=True)), options)
