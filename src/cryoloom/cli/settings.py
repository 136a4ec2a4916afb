"""Settings of a system from a YAML file and from `--FIELD VALUE` on the command line."""

import difflib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from cryoloom.errors import InputError


def setting_fields(
    model: type[BaseModel], prefix: str = "", given: BaseModel | None = None
) -> Iterator[tuple[str, Any, str]]:
    """Every setting of a model as (dotted option name, default, description), nested models flattened.

    given: the group's settings as the system that holds it has them, where they differ from the class's own.
    """
    for name, field in model.model_fields.items():
        option = prefix + name.replace("_", "-")
        default = field.default if given is None else getattr(given, name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from setting_fields(field.annotation, option + ".", default)
        else:
            yield option, default, field.description or ""


def read_settings(
    model: type[BaseModel], config: Path | None, tokens: tuple[str, ...], others: Iterable[str] = ()
) -> BaseModel:
    """Settings from defaults, then the YAML file, then options such as `--ab-initio.starts 1`.

    others: names of the command's own options, which a mistyped one may have meant. Raises InputError naming the option
    or the file's entry that does not fit.
    """
    values: dict[str, Any] = {}
    if config is not None:
        values = _read_yaml(config)
    for option, value in _pairs(tokens, _switches(model)):
        _check_known(option, model, others)
        _put(values, option.replace("-", "_").split("."), value)
    return checked_settings(model, values, config)


def checked_settings(model: type[BaseModel], values: dict[str, Any], source: Path | None) -> BaseModel:
    """Settings of plain values, of the file `source` where there is one; raises InputError naming the first misfit."""
    try:
        return model(**_over_defaults(model, values))
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        where = f"{source}: " if source is not None else ""
        raise InputError(f"{where}setting {name}: {first['msg'].lower()}, got {first['input']!r}.") from error


def _over_defaults(model: type[BaseModel], values: dict[str, Any]) -> dict[str, Any]:
    """Values with a group's other settings as the system has them, where its class has defaults of its own."""
    whole = dict(values)
    for name, field in model.model_fields.items():
        if isinstance(values.get(name), dict) and isinstance(field.default, BaseModel):
            plain = field.default.model_dump(mode="json")
            whole[name] = plain | _over_defaults(type(field.default), values[name])
    return whole


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


def _switches(model: type[BaseModel], prefix: str = "") -> set[str]:
    """Names of the options that are on or off."""
    found: set[str] = set()
    for name, field in model.model_fields.items():
        option = prefix + name.replace("_", "-")
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found |= _switches(field.annotation, option + ".")
        elif field.annotation is bool:
            found.add(option)
    return found


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


def _put(values: dict[str, Any], path: list[str], value: str) -> None:
    for name in path[:-1]:
        # What a file says in the place of a whole group gives way to the option.
        if not isinstance(values.get(name), dict):
            values[name] = {}
        values = values[name]
    values[path[-1]] = None if value.lower() in ("none", "null") else value
