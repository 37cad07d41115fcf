"""Values that sessions take and give: tensors and sequences of tensors in this process's memory."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from ...dtypes import DType, as_dtype
from ...graph import Array
from .devices import OrtDevice, check_device
from .dlpack import CPU, to_array
from .errors import Fail, InvalidArgument, status
from .types import element_name, element_type


class OrtValue:
    """A tensor, or a sequence of tensors, that a session takes or gives.

    The memory of a NumPy array is shared, not copied.
    """

    def __init__(self, value: Any, dtype: DType | None = None) -> None:
        """Wraps a NumPy array, a list of arrays or None; clients call the static methods."""
        self._value = value
        self._dtype = dtype

    @staticmethod
    def ortvalue_from_numpy(
        numpy_obj: Any,
        device_type: str | OrtDevice = "cpu",
        device_id: int = 0,
        vendor_id: int = -1,
    ) -> OrtValue:
        """A value over the memory of an array; a copy if that is not contiguous."""
        del device_id, vendor_id
        check_device(device_type)
        array = np.asarray(numpy_obj)
        return OrtValue(np.ascontiguousarray(array).reshape(array.shape))

    @staticmethod
    def ortvalue_from_numpy_with_onnx_type(data: Any, onnx_element_type: int) -> OrtValue:
        """A value whose elements an array holds the bits of, as uint16 does those of bfloat16.

        Raises:
            InvalidArgument: the elements of the array have another size.
        """
        dtype = element_type(onnx_element_type)
        array = np.ascontiguousarray(data)
        if array.dtype.itemsize != dtype.itemsize:
            raise status(
                InvalidArgument, f"elements of {array.dtype} cannot hold the bits of {dtype}"
            )
        return OrtValue(array.view(dtype.numpy), dtype)

    @staticmethod
    def ortvalue_from_shape_and_type(
        shape: Sequence[int],
        element_type: Any = np.float32,
        device_type: str | OrtDevice = "cpu",
        device_id: int = 0,
        vendor_id: int = -1,
    ) -> OrtValue:
        """A value of zeros, for a result to be written to."""
        del device_id, vendor_id
        check_device(device_type)
        dtype = _element_type(element_type)
        return OrtValue(np.zeros([int(n) for n in shape], dtype.numpy), dtype)

    @staticmethod
    def ortvalue_from_shape_and_onnx_type(
        shape: Sequence[int], onnx_element_type: int, device: str | OrtDevice = "cpu"
    ) -> OrtValue:
        """A value of zeros, its elements by ONNX's number of the type."""
        return OrtValue.ortvalue_from_shape_and_type(shape, int(onnx_element_type), device)

    @staticmethod
    def from_dlpack(data: Any, is_bool_tensor: bool = False) -> OrtValue:
        """A value over the memory of any tensor that has the DLPack protocol, or of its capsule."""
        array = to_array(data)
        return OrtValue(array.view(np.bool_) if is_bool_tensor else array)

    def __dlpack__(self, *, stream: Any = None) -> Any:
        return self.numpy().__dlpack__(stream=stream)

    def __dlpack_device__(self) -> tuple[int, int]:
        return CPU

    def to_dlpack(self) -> Any:
        """The capsule of a tensor."""
        return self.__dlpack__()

    @property
    def _ortvalue(self) -> OrtValue:
        """This value, which is also that of the extension module."""
        return self

    def _get_c_value(self) -> OrtValue:
        return self

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.array(self.numpy(), dtype=dtype, copy=copy)

    def data_ptr(self) -> int:
        """The address of the first element."""
        return int(self.numpy().ctypes.data)

    def device_name(self) -> str:
        return "cpu"

    def shape(self) -> list[int]:
        """The shape of a tensor.

        Raises:
            Fail: it is a sequence.
        """
        return list(self._tensor().shape)

    def data_type(self) -> str:
        """The type, such as "tensor(float)"."""
        if self.is_tensor_sequence():
            inner = self._value[0].dtype if self._value else np.dtype(np.float32)
            return f"seq(tensor({element_name(as_dtype(inner))}))"
        return f"tensor({element_name(self._elements())})"

    def element_type(self) -> int:
        """ONNX's number of the element type."""
        return self._elements().code

    def tensor_size_in_bytes(self) -> int:
        return int(self._tensor().nbytes)

    def has_value(self) -> bool:
        """False for an optional that is empty."""
        return self._value is not None

    def is_tensor(self) -> bool:
        return isinstance(self._value, np.ndarray)

    def is_sparse_tensor(self) -> bool:
        return False

    def is_tensor_sequence(self) -> bool:
        return isinstance(self._value, list)

    def as_sparse_tensor(self) -> Any:
        raise NotImplementedError("cnnrt has no sparse tensors")

    @staticmethod
    def ort_value_from_sparse_tensor(sparse_tensor: Any) -> OrtValue:
        raise NotImplementedError(f"cnnrt has no sparse tensors, such as {type(sparse_tensor)}")

    def numpy(self) -> Any:
        """The array, or the list of a sequence. A tensor's memory is shared."""
        return self._value

    def update_inplace(self, np_arr: Any) -> None:
        """Copies an array of the same shape and type into the memory of this value.

        Raises:
            InvalidArgument: shape or type differ.
        """
        array, mine = np.asarray(np_arr), self._tensor()
        if array.shape != mine.shape or array.dtype != mine.dtype:
            raise status(
                InvalidArgument,
                f"expected {mine.dtype}{list(mine.shape)}, got {array.dtype}{list(array.shape)}",
            )
        mine[...] = array

    def _tensor(self) -> Array:
        if not isinstance(self._value, np.ndarray):
            raise status(Fail, "the value is a sequence or empty, not a tensor")
        return self._value

    def _elements(self) -> DType:
        return self._dtype or as_dtype(self._tensor().dtype)


_element_type = element_type


class OrtValueVector:
    """Several values in order."""

    def __init__(self, values: Iterable[OrtValue] = ()) -> None:
        self._values = list(values)

    def push_back(self, value: Any, is_bool_tensor: bool = False) -> None:
        """Appends a value, or a tensor of DLPack."""
        given = isinstance(value, OrtValue)
        self._values.append(value if given else OrtValue.from_dlpack(value, is_bool_tensor))

    def push_back_batch(
        self,
        tensors: Sequence[Any],
        addresses: Sequence[int],
        elements: Sequence[Any],
        shapes: Sequence[Sequence[int]],
        devices: Sequence[OrtDevice],
    ) -> None:
        """Appends values over the memory of tensors, which must outlive them.

        Args:
            tensors: as many as there are values; only their memory is looked at.
            addresses: of the first elements.
            elements: the dtypes.
            shapes: of dense, row-major tensors.
            devices: where they are: the CPU.
        """
        rows = zip(tensors, addresses, elements, shapes, devices, strict=True)
        for _, address, dtype, shape, device in rows:
            check_device(device)
            self._values.append(OrtValue(array_at(address, shape, dtype)))

    def reserve(self, count: int) -> None:
        """Does nothing: a list grows by itself."""

    def shrink_to_fit(self) -> None:
        """Does nothing: a list grows by itself."""

    def element_type_at(self, index: int) -> int:
        """ONNX's number of the element type of a value."""
        return self._values[index].element_type()

    def dlpack_at(self, index: int) -> Any:
        """The capsule of a value."""
        return self._values[index].to_dlpack()

    def to_dlpacks(self, to_tensor: Callable[[Any], Any] | None = None) -> list[Any]:
        """The capsules of all values, or what a function such as torch's makes of them."""
        capsules = [value.to_dlpack() for value in self._values]
        return capsules if to_tensor is None else list(map(to_tensor, capsules))

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[OrtValue]:
        return iter(self._values)

    def __getitem__(self, index: int) -> OrtValue:
        return self._values[index]


def array_at(address: int, shape: Sequence[int], elements: Any) -> Array:
    """The array over memory of the caller's, which must outlive it.

    Args:
        address: of the first element.
        shape: of a dense, row-major array.
        elements: a dtype, or ONNX's number of the type.
    """
    dtype = _element_type(elements)
    size = int(np.prod([int(n) for n in shape])) * dtype.itemsize
    memory = (ctypes.c_char * size).from_address(int(address))
    array: Array = np.frombuffer(memoryview(memory).cast("B"), dtype.numpy)
    return array.reshape([int(n) for n in shape])


def unwrapped(value: Any) -> Any:
    """The array or list that an `OrtValue` holds; any other value as it is."""
    return value.numpy() if isinstance(value, OrtValue) else value


def copy_tensors(
    src_tensors: Sequence[OrtValue], dst_tensors: Sequence[OrtValue], stream: Any = None
) -> None:
    """Copies each tensor of a list into that of another, see `OrtValue.update_inplace`."""
    del stream
    for source, target in zip(src_tensors, dst_tensors, strict=True):
        target.update_inplace(source.numpy())
