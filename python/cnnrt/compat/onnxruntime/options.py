"""Options of sessions and runs."""

from __future__ import annotations

import enum
import itertools
import json
from collections.abc import Sequence
from typing import Any

from .errors import Fail, status
from .hardware import OrtEpDevice, OrtExecutionProviderDevicePolicy, check_devices
from .providers import CPU


class GraphOptimizationLevel(enum.IntEnum):
    """How much ONNX Runtime may rewrite a graph. cnnrt always does what keeps the result."""

    ORT_DISABLE_ALL = 0
    ORT_ENABLE_BASIC = 1
    ORT_ENABLE_EXTENDED = 2
    ORT_ENABLE_LAYOUT = 3
    ORT_ENABLE_ALL = 99


class ExecutionMode(enum.IntEnum):
    """Order of operators: one by one, or beside each other. In cnnrt each operator takes all
    threads."""

    ORT_SEQUENTIAL = 0
    ORT_PARALLEL = 1


class ExecutionOrder(enum.IntEnum):
    """The order of operators that do not depend on each other; cnnrt keeps the file's."""

    DEFAULT = 0
    PRIORITY_BASED = 1
    MEMORY_EFFICIENT = 2


FROM_MODEL = (
    "intra_op_num_threads",
    "inter_op_num_threads",
    "execution_mode",
    "graph_optimization_level",
    "enable_profiling",
)
"""Options that a model's metadata may set."""


class _Entries:
    """Texts by key, as sessions and runs take them."""

    _what = ""

    def __init__(self) -> None:
        self._entries: dict[str, str] = {}

    def _add(self, key: str, value: str) -> None:
        if not isinstance(key, str) or not isinstance(value, str):
            raise TypeError("keys and values of configuration entries are str")
        self._entries[key] = value

    def _get(self, key: str) -> str:
        if key not in self._entries:
            raise RuntimeError(f"{self._what} does not have configuration with key: {key}")
        return self._entries[key]


class SessionOptions(_Entries):
    """Settings of a session; see `InferenceSession`.

    `intra_op_num_threads` is the number of threads (0 or less: `cnnrt.get_num_threads()`).
    `enable_profiling`, `profile_file_prefix`, `optimized_model_filepath` and the free-dimension
    overrides do what they do in ONNX Runtime. The other attributes are kept and change nothing:
    they tune parts that cnnrt does not have, such as an arena of each session.
    """

    _what = "SessionOptions"

    def __init__(self) -> None:
        super().__init__()
        self.enable_cpu_mem_arena = True
        self.enable_mem_pattern = True
        self.enable_mem_reuse = True
        self.enable_profiling = False
        self.execution_mode = ExecutionMode.ORT_SEQUENTIAL
        self.execution_order = ExecutionOrder.DEFAULT
        self.graph_optimization_level = GraphOptimizationLevel.ORT_ENABLE_ALL
        self.inter_op_num_threads = 0
        self.intra_op_num_threads = 0
        self.log_severity_level = -1
        self.log_verbosity_level = 0
        self.logid = ""
        self.optimized_model_filepath = ""
        self.profile_file_prefix = "onnxruntime_profile_"
        self.use_deterministic_compute = False
        self.use_per_session_threads = True
        self._sizes_by_name: dict[str, int] = {}
        self._sizes_by_denotation: dict[str, int] = {}
        self._initializers: dict[str, Any] = {}
        self._files: dict[str, bytes] = {}
        self._cancelled = False
        self._providers: list[tuple[str, dict[str, str]]] = []

    def __setattr__(self, name: str, value: object) -> None:
        if not name.startswith("_") and hasattr(self, "_providers") and not hasattr(self, name):
            raise AttributeError(f"SessionOptions has no attribute {name!r}")
        super().__setattr__(name, value)

    def add_session_config_entry(self, key: str, value: str) -> None:
        """Keeps a configuration entry.

        Those of `optimized_model_external_initializers` act on `optimized_model_filepath`, and
        "session.record_ep_graph_assignment_info" on what a session tells. Others change nothing.
        """
        self._add(key, value)

    def get_session_config_entry(self, key: str) -> str:
        """Raises RuntimeError if there is no entry of this key."""
        return self._get(key)

    def add_free_dimension_override_by_name(self, name: str, size: int) -> None:
        """Fixes every free size of the inputs that has this name."""
        self._sizes_by_name[name] = int(size)

    def add_free_dimension_override_by_denotation(self, denotation: str, size: int) -> None:
        """Fixes every free size of the inputs that the file gives this denotation."""
        self._sizes_by_denotation[denotation] = int(size)

    def add_initializer(self, name: str, value: Any) -> None:
        """Replaces a constant of the model by an `OrtValue` of the same shape and type."""
        self._initializers[name] = value

    def add_external_initializers(self, names: list[str], values: list[Any]) -> None:
        """Replaces several constants of the model; see `add_initializer`."""
        if len(names) != len(values):
            raise status(Fail, f"{len(names)} names and {len(values)} values of initialisers")
        for name, value in zip(names, values, strict=True):
            self.add_initializer(name, value)

    def add_provider(self, name: str, options: dict[str, str]) -> None:
        """Adds an execution provider; the session knows the CPU's alone."""
        self._providers.append((name, dict(options)))

    def has_providers(self) -> bool:
        """True if `add_provider` was called."""
        return bool(self._providers)

    def register_custom_ops_library(self, path: str) -> None:
        raise NotImplementedError(
            f"{path}: cnnrt runs no operators of shared libraries; convert the model to operators "
            "of ONNX or com.microsoft"
        )

    def add_provider_for_devices(
        self, devices: Sequence[OrtEpDevice], options: dict[str, str]
    ) -> None:
        """Adds the CPU's provider, by its device.

        Raises:
            InvalidArgument: there is no device, or one that is not of `get_ep_devices`.
        """
        check_devices(devices)
        self.add_provider(devices[0].ep_name, options)

    def set_provider_selection_policy(self, policy: OrtExecutionProviderDevicePolicy) -> None:
        """Adds the provider of the device that the policy prefers, which is the CPU's."""
        OrtExecutionProviderDevicePolicy(policy)
        self.add_provider(CPU, {})

    def set_provider_selection_policy_delegate(self, delegate: Any) -> None:
        raise NotImplementedError(
            f"{delegate!r} is not asked: there is one device, that of get_ep_devices()"
        )

    def set_load_cancellation_flag(self, flag: bool) -> None:
        """Refuses to load a model while the flag is set, by ModelLoadCanceled."""
        self._cancelled = bool(flag)

    def add_external_initializers_from_files_in_memory(
        self, names: list[str], contents: list[bytes], lengths: list[int]
    ) -> None:
        """Takes files of external data from memory, by the names that the model has for them.

        Args:
            names: names of the files, as in the model.
            contents: the bytes of each.
            lengths: how many of them to take.
        """
        if not len(names) == len(contents) == len(lengths):
            raise status(Fail, f"{len(names)} names, {len(contents)} files, {len(lengths)} lengths")
        for name, data, length in zip(names, contents, lengths, strict=True):
            self._files[name] = bytes(data[:length])

    def _fixed(self, shape: Sequence[int | str], denotations: Sequence[str]) -> list[int | str]:
        """The shape of an input with the free sizes that have an override fixed."""
        kinds = itertools.chain(denotations, itertools.repeat(""))
        names, by_kind = self._sizes_by_name, self._sizes_by_denotation
        return [
            names.get(size, by_kind.get(kind, size)) if isinstance(size, str) else size
            for size, kind in zip(shape, kinds, strict=False)
        ]

    def _take(self, config: str) -> None:
        """Takes options from a model's own JSON, metadata of the key `ort_config`.

        Raises:
            Fail: it is not of that form.
        """
        try:
            given = json.loads(config)["session_options"]
            found = {name: int(given[name]) for name in FROM_MODEL if name in given}
        except (ValueError, KeyError, TypeError) as error:
            raise status(Fail, f"the model's ort_config is unusable: {error!r}") from None
        for name, number in found.items():
            setattr(self, name, type(getattr(self, name))(number))


class RunOptions(_Entries):
    """Settings of one run. `terminate` ends it before it begins, or refuses its result."""

    _what = "RunOptions"

    def __init__(self) -> None:
        super().__init__()
        self.log_severity_level = -1
        self.log_verbosity_level = 0
        self.logid = ""
        self.only_execute_path_to_fetches = False
        self.terminate = False

    def add_run_config_entry(self, key: str, value: str) -> None:
        """Keeps a configuration entry. Entries change nothing in cnnrt."""
        self._add(key, value)

    def get_run_config_entry(self, key: str) -> str:
        """Raises RuntimeError if there is no entry of this key."""
        return self._get(key)

    def add_active_adapter(self, adapter: Any) -> None:
        raise NotImplementedError(f"cnnrt has no LoRA adapters, such as {adapter!r}")
