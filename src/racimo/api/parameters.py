"""Parameters of a call: how what clients of the Proxmox VE API send becomes a typed model.

Every endpoint has a model derived from ``Parameters``; its fields are plain types, and what needs it is converted:
booleans from 1/0/on/off/yes/no/true/false, lists from repeated keys or split at comma, semicolon and blank.
"""

from __future__ import annotations

import re
import types
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from racimo.errors import BadParameter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import JsonValue

_TRUE, _FALSE = {"1", "on", "yes", "true"}, {"0", "off", "no", "false"}
_SEPARATORS = re.compile(r"[,;\s]+")
_INDEX = re.compile(r"([a-z]+)(0|[1-9]\d{0,4})")
IGNORED = frozenset({"_dc"})
"""What clients add against caches."""


class Parameters(BaseModel):
    """Base of all parameter models; by itself: no parameters.

    ``indexed`` names families such as ``{"net": 32}``: then ``net0`` … ``net31`` are accepted too, as strings; they
    are read with ``more()``.
    """

    model_config = ConfigDict(extra="allow", frozen=True, coerce_numbers_to_str=True, protected_namespaces=())
    indexed: ClassVar[Mapping[str, int]] = {}
    whole: ClassVar[frozenset[str]] = frozenset()
    """Lists whose entries are taken as they are: commas and blanks belong to them."""
    derived: ClassVar[Mapping[str, Callable[[Any], object]]] = {}
    """What a permission's path needs that is no parameter by itself, such as the realm of a user."""
    structured: ClassVar[bool] = False
    """The body is one JSON object with records inside, for calls between machines: nothing is converted."""

    def more(self) -> dict[str, str]:
        """The indexed parameters that were given."""
        return dict(self.model_extra or {})

    def values(self) -> dict[str, object]:
        """The parameters by the names that clients write, and what is derived from them."""
        own = {known.alias or name: getattr(self, name) for name, known in type(self).model_fields.items()}
        return {**own, **{name: derive(self) for name, derive in self.derived.items()}}

    @classmethod
    def names(cls) -> set[str]:
        """The names of the parameters as clients write them, indexed ones left out."""
        return {known.alias or name for name, known in cls.model_fields.items()}


P = TypeVar("P", bound=Parameters)
T = TypeVar("T")


class OfNode(Parameters):
    """Parameters of a call that a node answers."""

    node: Annotated[str, Field(description="The node's name.")]


def bind(model: type[P], given: Mapping[str, JsonValue], path: Mapping[str, str]) -> P:
    """The model filled with what was ``given`` in query and body, and with the ``path``'s parameters.

    Raises ``BadParameter`` naming every parameter that is unknown, malformed, missing or contradicts the path.
    """
    problems: dict[str, str] = {}
    values: dict[str, JsonValue] = {}
    fields = {known.alias or name: known.annotation for name, known in model.model_fields.items()}
    for name, value in given.items():
        if name in IGNORED:
            continue
        if name in path:
            if _text(value) != path[name]:
                problems[name] = f"'{value}' contradicts '{path[name]}' in the path"
        elif name in fields:
            try:
                if name in model.whole and not model.structured:
                    values[name] = [_text(part) for part in (value if isinstance(value, list) else [value])]
                else:
                    values[name] = value if model.structured else _converted(value, fields[name])
            except ValueError as error:
                problems[name] = str(error)
        elif _is_indexed(model, name):
            values[name] = _text(value)
        else:
            problems[name] = "is not a parameter of this call"
    try:
        bound = model.model_validate({**values, **{name: value for name, value in path.items() if name in fields}})
    except ValidationError as error:
        for problem in error.errors(include_url=False, include_context=False, include_input=False):
            name = str(problem["loc"][0]) if problem["loc"] else "?"
            problems.setdefault(name, _reason(problem["type"], problem["msg"]))
        raise BadParameter(problems) from error
    if problems:
        raise BadParameter(problems)
    return bound


def or_kept(given: T | None, present: T) -> T:
    """What was given, or what is there already."""
    return present if given is None else given


def gathered(pairs: Sequence[tuple[str, str]]) -> dict[str, JsonValue]:
    """Pairs of a query or a form as a mapping; a name that stands there several times has a list."""
    values: dict[str, JsonValue] = {}
    for name, value in pairs:
        name = name.removesuffix("[]")
        before = values.get(name)
        if name not in values:
            values[name] = value
        elif isinstance(before, list):
            before.append(value)
        else:
            values[name] = [before, value]
    return values


def boolean(value: JsonValue) -> bool:
    """A boolean as clients write it. Raises ``ValueError``."""
    text = _text(value).strip().lower() if not isinstance(value, list | dict) else ""
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    raise ValueError(f"'{value}' is not a boolean; use 1 or 0")


def _converted(value: JsonValue, annotation: object) -> JsonValue:
    kind = _bare(annotation)
    if kind is bool:
        return None if value is None else boolean(value)
    if kind in (list, tuple, set, frozenset):
        parts = value if isinstance(value, list) else [value]
        if any(isinstance(part, list | dict) for part in parts):
            raise ValueError("is a list of plain values")
        return [word for part in parts for word in _SEPARATORS.split(_text(part).strip()) if word]
    if isinstance(value, list):
        raise ValueError("was given more than once")  # noqa: TRY004 - told as a malformed parameter
    if kind is str and isinstance(value, bool):
        return _text(value)
    return value


def _bare(annotation: object) -> object:
    """The type itself, without ``Annotated`` and ``None``, and without what stands in brackets."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, types.UnionType):
        kinds = [_bare(kind) for kind in get_args(annotation) if kind is not type(None)]
        return kinds[0] if len(kinds) == 1 else None
    return get_origin(annotation) or annotation


def _is_indexed(model: type[Parameters], name: str) -> bool:
    match = _INDEX.fullmatch(name)
    return match is not None and int(match[2]) < model.indexed.get(match[1], 0)


def _text(value: JsonValue) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    return "" if value is None else str(value)


def _reason(kind: str, message: str) -> str:
    if kind == "missing":
        return "is missing, and it is not optional"
    return message.removeprefix("Value error, ")
