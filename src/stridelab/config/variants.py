"""What differs between the runs of a sweep, and the names that say so."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import Field, fields, is_dataclass
from typing import Any

from stridelab.models.settings import metadata, spell_entry, spell_field
from stridelab.names import MAX_NAME

from .overrides import LAYERS
from .schema import Config

AS_MADE = "default"
"""How the setting of a layer is spelled that a variant leaves as its network's maker had it."""
PARAM = re.compile(r"[^\w.\- :/]")
"""What MLflow allows in no name of a parameter."""


def science(config: Config) -> dict[str, Any]:
    """Everything that can change a result but the seed, flat: `{"model.strides": ((1, 1), ...), ...}`."""
    found = flat(config)
    plain = {key: found.pop(key) for key in list(found) if "." not in key and key != "seed"}
    found.pop("seed")
    return found | plain


def flat(settings: Any, prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for one in fields(settings):
        value = getattr(settings, one.name)
        if has_effect(one):
            key = prefix + one.name
            if is_dataclass(value):
                found |= flat(value, f"{key}.")
            else:
                found |= (
                    {f"{key}.{name}": one for name, one in value.items()} if isinstance(value, dict) else {key: value}
                )
    return found


def has_effect(setting: Field[Any]) -> bool:
    return bool(setting.metadata.get("affects_results", True))  # see names.NO_EFFECT


def affects_results(key: str) -> bool:
    """Whether a setting such as `trainer.lr` can change a result; one that this version does not know may."""
    settings: Any = Config()
    for word in key.split("."):
        known = {one.name: one for one in fields(settings)} if is_dataclass(settings) else {}
        if word not in known:
            return True
        if not has_effect(known[word]):
            return False
        settings = getattr(settings, word)
    return True


def refuse_mixed(configs: Sequence[Config]) -> None:
    """ValueError where runs of one sweep differ in what holds for all of it, be it by way of a group's file."""
    for one in fields(Config):
        values = [getattr(config, one.name) for config in configs]
        different = [value for value in values if value != values[0]]
        if different and not has_effect(one):
            parts = [part.name for part in fields(values[0])] if is_dataclass(values[0]) else []
            inner = [f".{part}" for part in parts if getattr(values[0], part) != getattr(different[0], part)]
            raise ValueError(
                f"{one.name}{''.join(inner[:1])} differs between the runs of this sweep; one value holds for all."
            )


def varying_keys(configs: Sequence[Config]) -> tuple[str, ...]:
    """Keys, the seed aside, that do not have the same value in all of `configs`."""
    sciences = [science(config) for config in configs]
    keys = dict.fromkeys(key for science in sciences for key in science)
    return tuple(key for key in keys if any(other.get(key) != sciences[0].get(key) for other in sciences))


def variant_name(config: Config, keys: Sequence[str]) -> str:
    """`strides=1-2-2 padding=same`; the strides when nothing varies."""
    return " ".join(f"{short(key)}={spelled(config, key)}" for key in named_by(config, keys))


def named_by(config: Config, keys: Sequence[str]) -> list[str]:
    """Of the keys that vary those that `config` has; its strides, or else its family, when nothing varies."""
    usual = next(key for key in ("strides", "name", "family") if hasattr(config.model, key))
    wanted = keys or (f"model.{usual}",)
    return [key for key in wanted if not key.startswith("model.") or hasattr(config.model, key.split(".")[1])]


def short(key: str) -> str:
    """`conv1.stride` for model.set.conv1.stride."""
    if key.startswith(LAYERS):
        return key.removeprefix(LAYERS)
    return "data" if key == "data.name" else key.rpartition(".")[2]


def spelled(config: Config, key: str) -> str:
    if key.startswith(LAYERS):
        return spell_entry(layer_settings(config).get(short(key), AS_MADE))
    section, _, name = key.rpartition(".")
    if section == "model":
        return spell_field(config.model, name)
    return spell_entry(getattr(getattr(config, section), name) if section else getattr(config, name))


def layer_settings(config: Config) -> Mapping[str, Any]:
    return getattr(config.model, "set", {})


def varying_params(configs: Sequence[Config]) -> list[dict[str, Any]]:
    """MLflow params of each: what varies (a list over layers as one word, and as one number for each layer that
    varies), the seed, and two facts that a table of several sweeps needs."""
    keys = varying_keys(configs)
    layers = {
        key: varying_layers([getattr(config.model, short(key), ()) for config in configs])
        for key in keys or ("model.strides",)
        if key.startswith("model.") and any(metadata(one.model, short(key)).get("one") for one in configs)
    }
    return [params_of(config, keys, layers) for config in configs]


def params_of(config: Config, keys: Sequence[str], layers: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    params: dict[str, Any] = {}
    for key in named_by(config, keys):
        name = short(key)
        if key in layers:
            value, one = getattr(config.model, name, ()), metadata(config.model, name)["one"]
            params |= {name: spelled(config, key)}
            params |= {f"{one}_{at + 1}": spell_entry(value[at]) for at in layers[key] if at < len(value)}
        else:
            params[PARAM.sub("_", name)] = spelled(config, key)
    channels = {"channels": spell_field(config.model, "channels")} if hasattr(config.model, "channels") else {}
    epochs = {} if "trainer.max_epochs" in keys else {"epochs": config.trainer.max_epochs}
    return channels | epochs | params | {"seed": config.seed}


def varying_layers(values: Sequence[Sequence[Any]]) -> list[int]:
    """Of all layers, those that differ; every one where none does, or where networks differ in depth."""
    depths = {len(value) for value in values}
    differ = [at for at in range(min(depths)) if len({value[at] for value in values}) > 1]
    return differ if differ and len(depths) == 1 else list(range(max(depths)))


def sweep_name(configs: Sequence[Config], keys: Sequence[str] | None = None) -> str:
    """The question's name: what varies (`keys`), and a hash of what does not. A grid that grows keeps its name."""
    keys = varying_keys(configs) if keys is None else keys
    fixed = {key: value for key, value in science(configs[0]).items() if key not in keys}
    text = json.dumps([configs[0].task_name, sorted(fixed.items())], default=str)
    prefix = "" if configs[0].task_name == "train" else f"{configs[0].task_name}-"
    words = "-".join(short(key) for key in keys) or "seeds"
    return f"{(prefix + words)[: MAX_NAME - 7]}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"
