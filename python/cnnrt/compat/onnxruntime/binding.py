"""Bindings: inputs and outputs that stay in place from one run to the next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...graph import Array
from .devices import OrtDevice, check_device
from .errors import InvalidArgument, status
from .values import OrtValue, OrtValueVector, array_at

if TYPE_CHECKING:
    from .options import RunOptions
    from .session import InferenceSession


class IOBinding:
    """Inputs and outputs of a session by name, in memory of the caller's choice.

    An output that is bound to memory is copied there after each run; any other gets new memory.
    """

    def __init__(self, session: InferenceSession) -> None:
        self._session = session
        self._inputs: dict[str, Any] = {}
        self._outputs: dict[str, Array | None] = {}
        self._results: list[OrtValue] = []

    def bind_cpu_input(self, name: str, arr_on_cpu: Any) -> None:
        """Binds an array to an input."""
        self._inputs[name] = np.asarray(arr_on_cpu)

    def bind_input(
        self,
        name: str,
        device_type: str | OrtDevice,
        device_id: int,
        element_type: Any,
        shape: Sequence[int],
        buffer_ptr: int,
    ) -> None:
        """Binds memory of the caller's to an input.

        Args:
            name: of the input.
            device_type: "cpu", or an `OrtDevice` that is the CPU.
            device_id: not used.
            element_type: a dtype, or ONNX's number of the type.
            shape: of a dense, row-major array.
            buffer_ptr: the address of the first element, which must stay valid.
        """
        del device_id
        check_device(device_type)
        self._inputs[name] = array_at(buffer_ptr, shape, element_type)

    def bind_ortvalue_input(self, name: str, ortvalue: OrtValue) -> None:
        """Binds a value to an input."""
        self._inputs[name] = ortvalue

    def bind_output(
        self,
        name: str,
        device_type: str | OrtDevice = "cpu",
        device_id: int = 0,
        element_type: Any = None,
        shape: Sequence[int] | None = None,
        buffer_ptr: int | None = None,
    ) -> None:
        """Asks for an output, in memory of the caller's if `buffer_ptr` is given."""
        del device_id
        check_device(device_type)
        if buffer_ptr is None:
            self._outputs[name] = None
        elif element_type is None or shape is None:
            raise ValueError("element_type and shape are needed with a buffer_ptr")
        else:
            self._outputs[name] = array_at(buffer_ptr, shape, element_type)

    def bind_ortvalue_output(self, name: str, ortvalue: OrtValue) -> None:
        """Asks for an output in the memory of a value."""
        self._outputs[name] = ortvalue.numpy()

    def synchronize_inputs(self) -> None:
        """Does nothing: memory of the CPU is always up to date."""

    def synchronize_outputs(self) -> None:
        """Does nothing: memory of the CPU is always up to date."""

    def get_outputs(self) -> list[OrtValue]:
        """The results of the last run, in the order in which they were bound."""
        return list(self._results)

    def get_outputs_as_ortvaluevector(self) -> OrtValueVector:
        return OrtValueVector(self._results)

    def copy_outputs_to_cpu(self) -> list[Any]:
        """The arrays of the last run, in the order in which they were bound."""
        return [value.numpy() for value in self._results]

    def clear_binding_inputs(self) -> None:
        self._inputs.clear()

    def clear_binding_outputs(self) -> None:
        self._outputs.clear()
        self._results.clear()

    def _run(self, options: RunOptions | None) -> None:
        names = list(self._outputs)
        results = self._session.run(names or None, self._inputs, options)
        if not names:
            self._results = [OrtValue(y) for y in results]
            return
        self._results = []
        for name, y in zip(names, results, strict=True):
            place = self._outputs[name]
            if place is not None:
                if place.shape != y.shape or place.dtype != y.dtype:
                    raise status(
                        InvalidArgument,
                        f"output {name!r} is {y.dtype}{list(y.shape)}, its memory holds "
                        f"{place.dtype}{list(place.shape)}",
                    )
                place[...] = y
            self._results.append(OrtValue(y if place is None else place))
