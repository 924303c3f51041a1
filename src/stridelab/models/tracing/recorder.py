"""Watches a forward pass, and writes down each torch function that makes a feature map as a layer."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from math import prod
from typing import Any

from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode, resolve_name

from stridelab.geometry import IMAGE, KINDS, Layer
from stridelab.geometry.effect import MapSize
from stridelab.text import by

from .calls import Call, Made, NotOnGrid, Unfollowed
from .costs import Costs
from .fold import fold_pads
from .origins import GRID, UNSEEN, Dims, TensorOrigin, mark, origin, tensors
from .rules import RULES, VALUELESS


def batch_size_for(sizes: Iterable[int]) -> int:
    """Images in the pass: a prime that divides no size of the network, so that what grows with the batch shows."""
    taken = set(sizes)
    return next(prime for prime in PRIMES if not any(size % prime == 0 for size in taken))


PRIMES = (1009, 1013, 1019, 1021, 1031, 1033, 1039, 1049, 1051, 1061, 1063, 1069, 1087, 1091, 1093, 1097)


MOST_OPAQUE = 1_000
"""Operations that cannot be followed; more are those of a module that treats the images of a batch one by one."""


class LayerRecorder(TorchFunctionMode):
    """The layers of one forward pass of `module`."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._names = {id(sub): name for name, sub in module.named_modules()}
        self._unused = {name: param.numel() for name, param in module.named_parameters()}
        self._running: list[tuple[str, bool]] = []
        self._calls: Counter[str] = Counter()
        self._layers: dict[str, Layer] = {}
        self._numbers: dict[str, int] = {}
        self._num_opaque = 0
        self._grids: dict[str, MapSize] = {}

    @property
    def path(self) -> str:
        """The sub-module that is running, numbered when it runs again."""
        return self._running[-1][0] if self._running else ""

    @contextmanager
    def watch(self, images: Tensor, state: dict[str, Tensor]) -> Iterator[None]:
        """Follow `images` through what runs in this context; `state` are the parameters and buffers by name."""
        self._batch_size = images.shape[0]
        self._grids[IMAGE] = MapSize(images.shape[1], (images.shape[2], images.shape[3]))
        mark(images, TensorOrigin(IMAGE, GRID))
        for name, tensor in state.items():
            mark(tensor, TensorOrigin(params=frozenset({name} & self._unused.keys())))
        self._costs = Costs(state.values(), batch_size=self._batch_size)
        hooks = register_module_forward_pre_hook(self._enter), register_module_forward_hook(self._leave)
        try:
            with self._costs.saved.watch(), self._costs, self:
                yield
        finally:
            for hook in hooks:
                hook.remove()

    def layers(self) -> tuple[Layer, ...]:
        """What was followed, and last the parameters that nothing used, one layer for each of their owners."""
        rest = self._costs.take()  # work behind the last feature map
        if self._layers and (rest.macs or rest.uncounted):
            name, last = self._layers.popitem()
            uncounted = ", ".join(filter(None, (last.uncounted, rest.uncounted)))
            self._layers[name] = replace(last, macs=(last.macs or 0) + rest.macs, uncounted=uncounted)
        layers = fold_pads(self._layers.values(), self._grids)
        owners: Counter[str] = Counter()
        for name, count in self._unused.items():
            owners[name.rpartition(".")[0] or name] += count
        taken = {layer.name for layer in layers}
        for owner, count in owners.items():
            name = f"{owner}.unused" if owner in taken else owner
            layers.append(Layer(name, "unused", (IMAGE,), params=count))
        return tuple(layers)

    def _enter(self, module: nn.Module, args: Any) -> None:
        path = self._names.get(id(module), self.path)
        is_leaf = all(name == "parametrizations" for name, _ in module.named_children())
        self._calls[path] += is_leaf
        again = self._calls[path] > 1
        self._running.append((f"{path}_{self._calls[path]}" if again else path, is_leaf))

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        """Notice what came about unseen: in TorchScript, or in another library."""
        read = [tensor for tensor in tensors(args) if origin(tensor).layer]
        lost = [tensor for tensor in tensors(output) if origin(tensor) is UNSEEN]
        if read and lost:
            inside = f"{self._names[id(module)]}." if id(module) in self._names else "."
            params = frozenset(name for name in self._unused if name.startswith(inside))
            self._opaque("output is made out of sight of torch functions", read, lost, params)
        self._running.pop()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        name = bare_name(func)
        self._follow(name, args, kwargs or {}, output if name != "setitem" else args[0])
        return output

    def _follow(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        read, made = tensors((args, kwargs)), tensors(output)
        maps = [tensor for tensor in read if origin(tensor).layer]
        params = frozenset[str]().union(*(origin(tensor).params for tensor in read))
        unseen = any(isinstance(tensor, FakeTensor) and origin(tensor) is UNSEEN for tensor in read)
        if not made or name in VALUELESS or not (maps or unseen):
            for tensor in made:
                mark(tensor, TensorOrigin(params=params))
            return
        try:
            if unseen:
                raise Unfollowed("reads another input, or a tensor made out of sight of torch functions")
            if name not in RULES:
                raise Unfollowed("cannot be followed")
            dims = tuple(origin(tensor).dims for tensor in maps)
            effect = RULES[name](Call(name, args, kwargs, tuple(maps), dims, output))
            if isinstance(effect, Made):
                self._layer(name, effect, maps, made, params)
            else:
                for tensor in made:
                    mark(tensor, TensorOrigin(origin(maps[0]).layer, effect.dims))
        except Unfollowed as reason:
            self._opaque(f"{name} {reason}", maps, made, params, on_grid=isinstance(reason, NotOnGrid))
        except (LookupError, TypeError, ValueError, AttributeError) as exc:
            self._opaque(f"{name} was called in a way that is not known: {exc}", maps, made, params)

    def _layer(self, name: str, effect: Made, maps: list[Tensor], made: list[Tensor], params: frozenset[str]) -> None:
        """A layer for each tensor that was made; the indices beside a maximum go with it."""
        sources = tuple(origin(tensor).layer or IMAGE for tensor in maps)
        for tensor in made:
            if tensor is not made[0] and not tensor.is_floating_point():
                mark(tensor, origin(made[0]))
                continue
            channels = prod(size for dim, size in zip(effect.dims, tensor.shape, strict=True) if "c" in dim)
            fields = {"out_channels": channels} | effect.fields
            layer = Layer(self._name(name), effect.kind, sources, **fields)
            grid = KINDS[layer.kind](layer, [self._grids[source] for source in sources]).grid
            if not fits(grid, effect.dims, tensor, self._batch_size):
                raise Unfollowed(f"makes {by(tensor.shape[1:])}, by its geometry {grid}")
            self._emit(layer, grid, tensor, effect.dims, params)

    def _opaque(
        self, reason: str, maps: list[Tensor], made: list[Tensor], params: frozenset[str], *, on_grid: bool = False
    ) -> None:
        """A layer of which only the shape is known; `on_grid`: that four dimensions are n-c-h-w is known too."""
        self._num_opaque += 1
        if self._num_opaque > MOST_OPAQUE:
            raise ValueError(
                f"more than {MOST_OPAQUE:,} of its operations cannot be followed, such as {reason.split()[0]}"
            )
        sources = tuple(dict.fromkeys(origin(tensor).layer or IMAGE for tensor in maps)) or (IMAGE,)
        for tensor in made:
            alike = [origin(other).dims for other in maps if other.shape == tensor.shape and not on_grid]
            dims = alike[0] if alike and sorted(alike[0]) == sorted(GRID) else unknown_dims(tensor.shape)
            elements = max(1, tensor.numel() // self._batch_size)
            if sorted(dims) == sorted(GRID):  # channels may hold images, and images windows
                size = [tensor.shape[dims.index(dim)] for dim in "hw"]
                channels = max(1, elements // prod(size))
            else:
                channels = tensor.shape[-1] if tensor.ndim else 1
                size = [max(1, elements // channels), 1]
            layer = Layer(
                self._name(reason.split()[0]),
                "opaque",
                sources,
                out_channels=channels,
                output_size=(size[0], size[1]),
                function=reason,
            )
            self._emit(layer, MapSize(channels, (size[0], size[1])), tensor, dims, params)

    def _emit(self, layer: Layer, grid: MapSize, tensor: Tensor, dims: Dims, params: frozenset[str]) -> None:
        cost = self._costs.take()
        self._grids[layer.name] = grid
        self._layers[layer.name] = replace(
            layer,
            params=sum(self._unused.pop(name, 0) for name in params),  # a shared weight counts once
            macs=cost.macs,
            activation_bytes=cost.image_bytes,
            batch_bytes=cost.batch_bytes,
            uncounted=cost.uncounted,
        )
        mark(tensor, TensorOrigin(layer.name, dims))

    def _name(self, function: str) -> str:
        """The sub-module's name where it is one function; a container's name and the function's otherwise."""
        path, is_leaf = self._running[-1] if self._running else ("", False)
        stem = f"{path}.{function}" if path else function
        if is_leaf and path and path not in self._layers and path != IMAGE:
            return path
        for count in itertools.count(self._numbers.get(stem, 1)):  # those before are taken
            name = stem if count == 1 else f"{stem}_{count}"
            if name not in self._layers and name != IMAGE:
                self._numbers[stem] = count
                return name
        raise AssertionError


def fits(grid: MapSize, dims: Dims, tensor: Tensor, batch_size: int) -> bool:
    """Whether geometry and PyTorch agree on a map."""
    sizes = {"c": grid.channels, "h": grid.size[0], "w": grid.size[1]}
    known = [dim for dim in sizes if dims.count(dim) == 1]
    return tensor.numel() == grid.elements * batch_size and all(
        tensor.shape[dims.index(dim)] == sizes[dim] for dim in known
    )


def unknown_dims(shape: Sequence[int]) -> Dims:
    """Four dimensions are taken for n-c-h-w; of others, the first for the images and the last for channels."""
    return GRID if len(shape) == 4 else ("n", *"?" * (len(shape) - 2), "c")[: len(shape)]


def bare_name(func: Any) -> str:
    """`relu` for F.relu, torch.relu_ and Tensor.relu_ alike; of a property, its name."""
    name = str(getattr(func, "__name__", func))
    if name == "__get__":
        name = (resolve_name(func) or "property.get").split(".")[-2]
    return name.strip("_")
