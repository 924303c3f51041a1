"""Watches a forward pass, and writes down each torch function that makes a feature map as a layer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import prod
from typing import Any

from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from stridelab.geometry import IMAGE, Layer, Pair

from .saved import SavedTensors
from .trace_rules import GRID, RULES, VALUELESS, Call, Dims, Made, Moved, Unfollowed

BATCH = 101
"""Images in the pass: a prime, so that what grows with the batch can be told from what does not."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What is known of a tensor: the layer that made it, what its dimensions count, parameters behind it."""

    layer: str | None = None
    dims: Dims = ()
    params: frozenset[str] = frozenset()


UNKNOWN = Origin()


def origin(tensor: Tensor) -> Origin:
    known: Origin = getattr(tensor, "_stridelab_origin", UNKNOWN)
    return known


def mark(tensor: Tensor, known: Origin) -> None:
    tensor._stridelab_origin = known  # type: ignore[attr-defined]


class Costs(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Multiply-accumulates, and bytes that autograd saves, since they were last taken."""

    def __init__(self, held: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.saved = SavedTensors(held)
        self._macs = self._taken = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        if count := flop_registry.get(func._overloadpacket):
            self._macs += count(*args, **(kwargs or {}), out_val=output) // 2
        return output

    def take(self) -> tuple[int, int, int]:
        """(MACs of an image, bytes of an image, bytes once a batch)."""
        new = self.saved.bytes_of_storages[self._taken :]
        macs, self._macs, self._taken = self._macs, 0, self._taken + len(new)
        growing = sum(size for size in new if size % BATCH == 0)
        return macs // BATCH, growing // BATCH, sum(new) - growing


class Recorder(TorchFunctionMode):
    """The layers of one forward pass of `module`."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.layers: dict[str, Layer] = {}
        self.sizes: dict[str, Pair] = {}
        """Height and width of the maps as PyTorch made them."""
        self._names = {id(sub): name for name, sub in module.named_modules()}
        self._unused = {name: param.numel() for name, param in module.named_parameters()}
        self._running: list[tuple[str, bool]] = []
        self._calls: Counter[str] = Counter()

    @property
    def path(self) -> str:
        """The sub-module that is running, numbered when it runs again."""
        return self._running[-1][0] if self._running else ""

    @contextmanager
    def watch(self, images: Tensor, state: dict[str, Tensor]) -> Iterator[None]:
        mark(images, Origin(IMAGE, GRID))
        for name, tensor in state.items():
            mark(tensor, Origin(params=frozenset({name} & self._unused.keys())))
        self._costs = Costs(state.values())
        hooks = [
            register_module_forward_pre_hook(self._enter),
            register_module_forward_hook(self._leave),
        ]
        try:
            with self._costs.saved.watch(), self._costs, self:
                yield
        finally:
            for hook in hooks:
                hook.remove()

    def _enter(self, module: nn.Module, args: Any) -> None:
        path = self._names.get(id(module), self.path)
        is_leaf = not any(module.children())
        self._calls[path] += is_leaf
        again = self._calls[path] > 1
        self._running.append((f"{path}_{self._calls[path]}" if again else path, is_leaf))

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        """Notices what came about unseen: in TorchScript, a custom autograd function, another library."""
        read = [known.layer for known in map(origin, tensors(args)) if known.layer]
        lost = [tensor for tensor in tensors(output) if origin(tensor) is UNKNOWN]
        if read and lost:
            self._opaque("is computed out of sight of torch functions", read, lost, frozenset())
        self._running.pop()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        self._follow(func, args, kwargs or {}, output)
        return output

    def _follow(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        name = bare_name(func)
        made = tensors(args[0]) if name == "setitem" else tensors(output)
        read = tensors((args, kwargs))
        maps = [tensor for tensor in read if origin(tensor).layer]
        unseen = [tensor for tensor in read if isinstance(tensor, FakeTensor) and origin(tensor) is UNKNOWN]
        params = frozenset[str]().union(*(origin(tensor).params for tensor in read))
        sources = [origin(tensor).layer or IMAGE for tensor in maps]
        if unseen and made:
            self._opaque(f"{name} reads a tensor made out of sight of torch functions", sources, made, params)
        elif not maps or name in VALUELESS:
            for tensor in made:
                mark(tensor, Origin(params=params))
        elif made:
            dims = tuple(origin(tensor).dims for tensor in maps)
            call = Call(name, args, kwargs, tuple(maps), dims, output)
            try:
                if name not in RULES:
                    raise Unfollowed("is not a function whose effect on the grid is known")
                effect = RULES[name](call)
            except Unfollowed as reason:
                self._opaque(f"{name} {reason}", sources, made, params)
                return
            if isinstance(effect, Made):
                self._layer(name, effect, sources, made, params)
            for tensor in made if isinstance(effect, Moved) else ():
                mark(tensor, Origin(sources[0], effect.dims))

    def _layer(
        self, name: str, effect: Made, sources: list[str], made: list[Tensor], params: frozenset[str]
    ) -> None:
        for tensor in made:
            shape = dict(zip(effect.dims, tensor.shape, strict=True))
            channels = prod(size for dim, size in zip(effect.dims, tensor.shape, strict=True) if "c" in dim)
            layer = Layer(
                name=self._name(name),
                kind=effect.kind,
                inputs=tuple(sources),
                out_channels=channels,
                **effect.fields,
            )
            if "h" in shape and "w" in shape:
                self.sizes[layer.name] = (shape["h"], shape["w"])
            self._emit(layer, effect.dims, [tensor], params)

    def _opaque(self, reason: str, sources: list[str], made: list[Tensor], params: frozenset[str]) -> None:
        """A layer of which only the shape is known; four dimensions are taken for n-c-h-w."""
        for tensor in made:
            shape = tuple(tensor.shape)
            elements = max(1, tensor.numel() // BATCH)
            channels = shape[1] if len(shape) == 4 else (shape[-1] if shape else 1)
            size = (shape[2], shape[3]) if len(shape) == 4 else (max(1, elements // channels), 1)
            layer = Layer(
                name=self._name(reason.split()[0]),
                kind="opaque",
                inputs=tuple(dict.fromkeys(sources)) or (IMAGE,),
                out_channels=channels,
                output_size=size,
                function=reason,
            )
            dims = GRID if len(shape) == 4 else ("n", *"?" * (len(shape) - 2), "c")[: len(shape)]
            self._emit(layer, dims, [tensor], params)

    def _emit(self, layer: Layer, dims: Dims, made: list[Tensor], params: frozenset[str]) -> None:
        count = sum(
            self._unused.pop(name, 0) for name in params
        )  # a shared weight counts where it is first used
        macs, kept, kept_once = self._costs.take()
        self.layers[layer.name] = replace(
            layer, params=count, macs=macs, activation_bytes=kept, batch_bytes=kept_once
        )
        for tensor in made:
            mark(tensor, Origin(layer.name, dims))

    def _name(self, function: str) -> str:
        """The sub-module's name where it is one function; a container's name and the function's otherwise."""
        path, is_leaf = self._running[-1] if self._running else ("", False)
        stem = f"{path}.{function}" if path else function
        numbered = (stem if count == 1 else f"{stem}_{count}" for count in range(1, len(self.layers) + 2))
        names = [path, *numbered] if is_leaf and path else numbered
        return next(name for name in names if name not in self.layers and name != IMAGE)

    def finish(self) -> tuple[Layer, ...]:
        """The layers, with pads folded into the convolutions that read them; last, parameters nobody used."""
        layers = fold_pads(self.layers.values(), self.sizes)
        owners: Counter[str] = Counter()
        for name, count in self._unused.items():
            owners[name.rpartition(".")[0] or name] += count
        for owner, count in owners.items():
            name = owner if owner not in layers else f"{owner}.unused"
            layers[name] = Layer(name, "unused", (IMAGE,), params=count)
        return tuple(layers.values())


def fold_pads(layers: Iterable[Layer], sizes: dict[str, Pair]) -> dict[str, Layer]:
    """F.pad, and an unpadded convolution that alone reads the result, are one padded convolution."""
    layers = list(layers)
    readers = Counter(source for layer in layers for source in layer.inputs)
    kept: dict[str, Layer] = {}
    renamed: dict[str, str] = {}
    for layer in layers:
        layer = replace(layer, inputs=tuple(renamed.get(source, source) for source in layer.inputs))
        pad = kept.get(layer.inputs[0])
        if pad and pad.kind == "pad" and readers[pad.name] == 1 and unpadded(layer):
            del kept[pad.name]
            name = pad.name if layer.name.startswith(f"{pad.name}.") else layer.name
            renamed[layer.name] = name
            sizes[name] = sizes.pop(layer.name)
            layer = replace(
                layer,
                name=name,
                inputs=pad.inputs,
                padding=pad.padding,
                padding_mode=pad.padding_mode,
                activation_bytes=(pad.activation_bytes or 0) + (layer.activation_bytes or 0),
            )
        kept[layer.name] = layer
    return kept


def unpadded(layer: Layer) -> bool:
    return layer.kind == "conv" and layer.padding in ((0, 0), ("valid", "valid"))


def tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def bare_name(func: Any) -> str:
    """`relu` for F.relu, torch.relu_ and Tensor.relu_ alike; the property's name for a property."""
    name = str(func.__name__)
    if name == "__get__":
        name = (resolve_name(func) or "").split(".")[-2]
    return name.strip("_")
