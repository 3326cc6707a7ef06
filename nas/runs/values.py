"""Values that come from a file. A run's folder may be anybody's, so numbers and texts are checked where they enter."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, AllowInfNan, Field, PlainValidator, Strict, TypeAdapter, ValidationError

from fastvit.config import FastViTConfig
from fastvit.presets import PRESETS
from nas.text import printable

T = TypeVar("T")


def _config(value: object) -> FastViTConfig:
    if isinstance(value, FastViTConfig):
        return value
    try:
        return FastViTConfig.from_dict(value)  # type: ignore[arg-type]
    except (TypeError, AttributeError, KeyError, RecursionError, OverflowError) as error:
        raise ValueError(f"no configuration: {error}") from None


def _preset(value: str) -> str:
    if value not in PRESETS:
        raise ValueError(f"{value!r} is no preset")
    return value


Number = Annotated[float, Strict(), AllowInfNan(False)]
Count = Annotated[int, Strict(), Field(ge=0)]
Text = Annotated[str, Strict(), AfterValidator(printable)]
Flag = Annotated[bool, Strict()]
Config = Annotated[FastViTConfig, PlainValidator(_config)]
Preset = Annotated[str, Strict(), AfterValidator(_preset)]


@lru_cache(maxsize=16)
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def read(kind: type[T], values: Mapping[str, Any]) -> T:
    """A dataclass from what a file says. Fields of a later version are passed over.

    Raises:
        ValueError: a value is missing or not what it should be; names it in one sentence.
    """
    try:
        found: T = _adapter(kind).validate_python(values)  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or kind.__name__
        raise ValueError(printable(f"{where[:80]}: {first['msg'][:200]}, found {repr(first['input'])[:60]}")) from None
    return found
