"""Sessions and bindings as onnxruntime's extension module has them, under the Python classes.

They take the arguments in another order, and devices as `OrtDevice`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .binding import IOBinding
from .devices import OrtDevice
from .values import OrtValue, OrtValueVector

if TYPE_CHECKING:
    from .options import RunOptions
    from .session import InferenceSession


class NativeSession:
    """The session below an `InferenceSession`, which clients reach as its `_sess`."""

    def __init__(self, session: InferenceSession) -> None:
        self.session = session

    def run(
        self,
        output_names: Sequence[str],
        input_feed: Mapping[str, Any],
        run_options: RunOptions | None = None,
    ) -> list[Any]:
        return self.session.run(output_names, input_feed, run_options)

    def run_with_ort_values(
        self,
        feeds: Mapping[str, OrtValue],
        fetches: Sequence[str],
        run_options: RunOptions | None = None,
    ) -> OrtValueVector:
        """As `InferenceSession.run_with_ort_values`, with the inputs first."""
        return OrtValueVector(self.session.run_with_ort_values(fetches, feeds, run_options))

    def run_with_iobinding(
        self, iobinding: SessionIOBinding, run_options: RunOptions | None = None
    ) -> None:
        """Runs with the inputs of a binding and leaves the results in it."""
        self.session.run_with_iobinding(iobinding, run_options)


class SessionIOBinding(IOBinding):
    """A binding of a `NativeSession`, whose memory is named by `OrtDevice`."""

    def __init__(self, session: NativeSession) -> None:
        super().__init__(session.session)

    def bind_input(  # type: ignore[override]  # the extension module's order
        self,
        name: str,
        device_or_array: Any,
        element_type: Any = None,
        shape: Sequence[int] = (),
        buffer_ptr: int = 0,
    ) -> None:
        """Binds an array, or memory of the caller's on a device, to an input."""
        if isinstance(device_or_array, OrtDevice):
            super().bind_input(name, device_or_array, 0, element_type, shape, buffer_ptr)
        else:
            self.bind_cpu_input(name, device_or_array)

    def bind_output(  # type: ignore[override]  # the extension module's order
        self,
        name: str,
        device: OrtDevice,
        element_type: Any = None,
        shape: Sequence[int] | None = None,
        buffer_ptr: int | None = None,
    ) -> None:
        """Asks for an output, in memory of the caller's if `buffer_ptr` is given."""
        super().bind_output(name, device, 0, element_type, shape, buffer_ptr)

    def get_outputs(self) -> OrtValueVector:  # type: ignore[override]
        """The results of the last run, in the order in which they were bound."""
        return self.get_outputs_as_ortvaluevector()
