"""The errors that cnnrt raises, all of them a `CnnrtError`, and its one class of warnings."""


class CnnrtError(Exception):
    """Base of every error of this package."""


class FormatError(CnnrtError):
    """A file is not what its name or its header says, or is damaged."""


class GraphError(CnnrtError):
    """A graph is inconsistent: a name without a producer, an attribute out of range."""


class ShapeError(CnnrtError, ValueError):
    """An array or a tensor has another shape or dtype than the operator or the model takes."""


class ValueNeeded(ShapeError):
    """The shape of a result depends on the value of a tensor that is not constant.

    `runs_on_values` is true if the operator that raised it can still run once its inputs have been
    computed. The next stage of the plan is then made for its result.
    """

    def __init__(self, message: str, tensor: str, *, runs_on_values: bool = False) -> None:
        super().__init__(message)
        self.tensor = tensor
        self.runs_on_values = runs_on_values


class MemoryLimitError(ShapeError):
    """A network asks for more memory than its size allows; see `cnnrt.set_memory_limit`."""


class WorkLimitError(CnnrtError):
    """A run does not end within the work that its size allows; see `cnnrt.set_work_limit`."""


class UnsupportedOperator(CnnrtError):
    """The model needs operators, or attributes of operators, that cnnrt does not run."""


class IndexOutOfRange(CnnrtError, IndexError):
    """An index among a run's inputs is beyond the axis that it selects from."""


class OpenMPError(CnnrtError, RuntimeError):
    """The threads of OpenMP were asked for, and no runtime can be had."""


class ImageError(CnnrtError):
    """A file or an array cannot be read as an image."""


class PreprocessingWarning(UserWarning):
    """How a picture becomes a network's input is not said, or does not look right.

    The network would run, and its answers would be wrong without a word.
    """


class MissingKernelWarning(UserWarning):
    """Operators of a network run by their NumPy references, and take a good part of its time.

    The results are right. `Model.describe` names the operators.
    """
