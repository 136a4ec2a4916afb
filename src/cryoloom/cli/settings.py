"""Settings of a system from a YAML file and from `--FIELD VALUE` on the command line."""

import difflib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from cryoloom.errors import InputError


def setting_fields(model: type[BaseModel]) -> Iterator[tuple[str, Any, str]]:
    """Every setting of a model as (dotted option name, default, description), nested models flattened."""
    # A group's defaults are those that the system gives it, not those of its class.
    return _fields_of(model(), "")


def _fields_of(values: BaseModel, prefix: str) -> Iterator[tuple[str, Any, str]]:
    for name, field in type(values).model_fields.items():
        option, value = prefix + name.replace("_", "-"), getattr(values, name)
        if isinstance(value, BaseModel):
            yield from _fields_of(value, option + ".")
        else:
            yield option, value, field.description or ""


def read_settings(
    model: type[BaseModel], config: Path | None, tokens: tuple[str, ...], others: Iterable[str] = ()
) -> BaseModel:
    """Settings from defaults, then the YAML file, then options such as `--ab-initio.starts 1`.

    others: names of the command's own options, which a mistyped one may have meant. Raises InputError naming the option
    or the file's entry that does not fit.
    """
    values = _read_yaml(config) if config is not None else {}
    switches, optional = _options(model, _is_switch), _options(model, _may_be_none)
    for option, value in _pairs(tokens, switches):
        _check_known(option, model, others)
        left_out = option.replace("_", "-") in optional and value.lower() in ("none", "null")
        _put(values, option.replace("-", "_").split("."), None if left_out else value)
    return checked_settings(model, values, config)


def checked_settings(model: type[BaseModel], values: dict[str, Any], source: Path | None) -> BaseModel:
    """Settings of plain values, of the file `source` where there is one; raises InputError naming the first misfit."""
    try:
        return model(**_over(model().model_dump(), values))
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        where = f"{source}: " if source is not None else ""
        raise InputError(f"{where}setting {name}: {first['msg'].lower()}, got {first['input']!r}.") from error


def _over(defaults: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """Values over defaults, group by group: a system's defaults for a group outlive one option of it."""
    merged = {**defaults, **values}
    for name, default in defaults.items():
        if isinstance(default, dict) and isinstance(values.get(name), dict):
            merged[name] = _over(default, values[name])
    return merged


def _read_yaml(config: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(config.read_text()) or {}
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{config} cannot be read as YAML settings: {reason}.") from error
    # A run's config.yaml serves too: its settings are one of its entries.
    if isinstance(values, dict):
        values = values.get("settings", values)
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        raise InputError(f"{config}: expected `name: value` lines, as `cryoloom systems loom` lists them.")
    return values


def _options(model: type[BaseModel], kind: Callable[[Any], bool], prefix: str = "") -> set[str]:
    """Names of the options whose annotations are of a kind."""
    found: set[str] = set()
    for name, field in model.model_fields.items():
        option = prefix + name.replace("_", "-")
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found |= _options(field.annotation, kind, option + ".")
        elif kind(field.annotation):
            found.add(option)
    return found


def _is_switch(annotation: Any) -> bool:
    return annotation is bool


def _may_be_none(annotation: Any) -> bool:
    return type(None) in get_args(annotation)


def _pairs(tokens: tuple[str, ...], switches: set[str]) -> Iterator[tuple[str, str]]:
    """Options and values; a switch may stand without one (on), or with "no-" before its name (off)."""
    rest = list(tokens)
    while rest:
        option = rest.pop(0)
        if not option.startswith("--"):
            raise InputError(f"{option!r} was not expected here: options start with --, see `reconstruct --help`.")
        name, equals, value = option[2:].partition("=")
        bare = name.replace("_", "-")
        group, dot, last = bare.rpartition(".")
        positive = f"{group}{dot}{last.removeprefix('no-')}"
        if not equals and positive in switches and positive != bare:
            yield positive, "false"
            continue
        if not equals and bare in switches and (not rest or rest[0].startswith("--")):
            yield name, "true"
            continue
        if not equals:
            if not rest:
                raise InputError(f"--{name} needs a value.")
            value = rest.pop(0)
        yield name, value


def _check_known(option: str, model: type[BaseModel], others: Iterable[str]) -> None:
    known = [name for name, _, _ in setting_fields(model)]
    option = option.replace("_", "-")
    if option not in known:
        # A forgotten group ("--starts") is as likely as a typing error.
        near = [name for name in known if name.rsplit(".", 1)[-1] == option]
        every = [*(name.replace("_", "-") for name in others), *known]
        near = near or difflib.get_close_matches(option, every, 1)
        hint = f"did you mean --{near[0]}?" if near else "`cryoloom systems loom` lists the settings."
        raise InputError(f"there is no option --{option}: {hint}")


def _put(values: dict[str, Any], path: list[str], value: str | None) -> None:
    for name in path[:-1]:
        # What a file says in the place of a whole group gives way to the option.
        if not isinstance(values.get(name), dict):
            values[name] = {}
        values = values[name]
    values[path[-1]] = value
