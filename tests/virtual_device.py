"""A second device that computes on the CPU, to find what only a GPU would show: mixed devices, and waits for it.

Its tensors say that they are on the device "meta" and hold an ordinary tensor. Every operation on them is recorded
before it is computed on the tensors that they hold.
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

DEVICE = torch.device("meta")
PACKAGE = Path(__file__).parent.parent / "tunesmith"
# Operations whose result, or its shape, the host must know before it goes on.
WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "unique", "bincount")
# Operations that take a number of the host in the form of a tensor without dimensions.
TAKES_NUMBERS = (
    "add",
    "sub",
    "mul",
    "div",
    "where",
    "eq",
    "ne",
    "gt",
    "lt",
    "ge",
    "le",
    "pow",
    "fill",
    "copy_",
    "rsub",
)


class VirtualTensor(torch.Tensor):
    """A tensor on the second device. held: what it stands for."""

    held: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, held: Tensor) -> VirtualTensor:
        found = torch.Tensor._make_wrapper_subclass(
            cls, held.size(), strides=held.stride(), storage_offset=0, dtype=held.dtype, device=DEVICE
        )
        found.held = held
        return found  # type: ignore[no-any-return]

    @classmethod
    def __torch_dispatch__(cls, operation: Any, types: Any, arguments: Any = (), keywords: Any = None) -> Any:
        raise AssertionError(f"{operation} outside of the second device")

    def tolist(self) -> Any:
        for mode in VirtualDevice.active:
            mode.waits[f"{_place()} tolist"] += 1
        return self.held.tolist()

    def __repr__(self, **_: object) -> str:
        return f"VirtualTensor({tuple(self.shape)}, {self.dtype})"


class _Factories(TorchFunctionMode):
    """Tensors made of lists, which no operation makes."""

    def __torch_function__(self, function: Any, types: Any, arguments: Any = (), keywords: Any = None) -> Any:
        keywords = dict(keywords or {})
        goal = keywords.get("device")
        here = goal is not None and torch.device(goal).type == DEVICE.type
        if function is torch.tensor and here:
            for mode in VirtualDevice.active:  # numbers of the host are copied from memory that is not pinned
                mode.waits[f"{_place()} tensor"] += 1
            return VirtualTensor(function(*arguments, **{**keywords, "device": "cpu"}))
        if function is torch.Tensor.new_tensor and isinstance(arguments[0], VirtualTensor):
            return VirtualTensor(arguments[0].held.new_tensor(*arguments[1:], **keywords))
        return function(*arguments, **keywords)


class VirtualDevice(TorchDispatchMode):
    """In the block there is a second device.

    mixed: place and operation -> how often it was given tensors of both devices.
    waits: place and operation -> how often the host waited for the device.
    operations: how many there were on the device.
    """

    active: list[VirtualDevice] = []  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self.mixed, self.waits, self.operations = Counter[str](), Counter[str](), 0
        self.factories = _Factories()

    def __enter__(self) -> VirtualDevice:
        VirtualDevice.active.append(self)
        self.factories.__enter__()
        return super().__enter__()  # type: ignore[no-any-return]

    def __exit__(self, *reason: object) -> None:
        VirtualDevice.active.remove(self)
        super().__exit__(*reason)
        self.factories.__exit__(*reason)

    def __torch_dispatch__(self, operation: Any, types: Any, arguments: Any = (), keywords: Any = None) -> Any:
        keywords = dict(keywords or {})
        tensors = [each for each in pytree.tree_leaves((arguments, keywords)) if isinstance(each, Tensor)]
        here = [each for each in tensors if isinstance(each, VirtualTensor)]
        goal = keywords.get("device")
        if not here and (goal is None or torch.device(goal).type != DEVICE.type):
            return operation(*arguments, **keywords)
        self._record(operation, here, [each for each in tensors if not isinstance(each, VirtualTensor)], keywords)
        return self._compute(operation, arguments, keywords, bool(here))

    def _record(
        self, operation: Any, here: Sequence[Tensor], elsewhere: Sequence[Tensor], keywords: Mapping[str, Any]
    ) -> None:
        self.operations += 1
        name = operation.overloadpacket.__name__
        to_host = keywords.get("device") is not None and torch.device(keywords["device"]).type == "cpu"
        numbers = name.startswith(TAKES_NUMBERS) and all(each.dim() == 0 for each in elsewhere)
        if here and elsewhere and name != "copy_" and not numbers:
            self.mixed[f"{_place()} {name}"] += 1
        from_host = not here and bool(elsewhere)
        masked = name.startswith("index") and any(each.dtype == torch.bool for each in here[1:])
        blocking = from_host and not keywords.get("non_blocking", False)
        if (here and (name.startswith(WAITING) or to_host or masked)) or blocking:
            self.waits[f"{_place()} {name}"] += 1

    def _compute(self, operation: Any, arguments: Any, keywords: dict[str, Any], on_device: bool) -> Any:
        def held(value: Any) -> Any:
            return value.held if isinstance(value, VirtualTensor) else value

        goal = keywords.get("device")
        plain_arguments, plain = pytree.tree_map(held, (arguments, keywords))
        if goal is not None:
            plain["device"] = torch.device("cpu")
        with _disable_current_modes():
            found = operation(*plain_arguments, **plain)
            if goal is not None and any(found is each for each in pytree.tree_leaves(plain_arguments)):
                found = found.clone()
        if keywords.get("out") is not None:
            return keywords["out"]
        if operation._schema.is_mutable and isinstance(found, Tensor):
            return arguments[0]
        if goal is not None and torch.device(goal).type == "cpu":
            return found
        return pytree.tree_map(lambda each: VirtualTensor(each) if isinstance(each, Tensor) else each, found)


def to_virtual_device(model: nn.Module) -> None:
    """Move the parameters and buffers of a model in place; tied ones stay tied."""
    moved: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, value in list(module._parameters.items()):
            if value is not None:
                parameter = moved.setdefault(id(value), nn.Parameter(VirtualTensor(value.data), value.requires_grad))
                module._parameters[name] = parameter
        for name, buffer in list(module._buffers.items()):
            if buffer is not None:
                module._buffers[name] = VirtualTensor(buffer)


def _place() -> str:
    """The line of the project, or else of transformers, that is being run."""
    frames = traceback.extract_stack()[::-1]
    tests: Sequence[Callable[[str], bool]] = (
        lambda name: name.startswith(str(PACKAGE)),
        lambda name: "/transformers/" in name,
    )
    for chosen in tests:
        for frame in frames:
            if chosen(frame.filename):
                return f"{'/'.join(Path(frame.filename).parts[-2:])}:{frame.lineno}"
    return "elsewhere"
