# ruff: noqa: ANN401 (annotations, and JSON that was just read, have no narrower type)
"""Values to JSON and back, exactly, for every frozen dataclass of the model.

The shape: a dataclass is an object of its fields, less those that have their default value, so that
a new field with a default leaves older records and their digests as they are. (A default, once
recorded, must therefore never change.) Where a field may hold one of several classes, the object
names its class under "type". A `Text` is a string when it is one fixed part, else a list.
Sequences inside a `Json` field come back as lists.
"""

import hashlib
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin

from opskit.model.text import Bound, Fixed, Late, Text
from opskit.model.value import Json

_WRITER = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
)
T = TypeVar("T")
Convert = Callable[[Any], Any]
Object = dict[str, Any]

TAG = "type"
BOUND = "bound"
"""The one key of a bound part of a text."""
WRAPPED = "value"
"""Where plain JSON and classes share a field, an object or a text stands under this key."""


def to_json(value: object) -> Json:
    """Return a dataclass of the model as plain JSON (dicts, lists, strings, numbers)."""
    return cast(Json, _class_encoder(type(value))(value))


def from_json(cls: type[T], data: Json) -> T:
    """Return the value that `to_json` was given; ValueError where the data has another shape."""
    return cast(T, _class_decoder(cls)(data))


def canonical(data: Json) -> bytes:
    """Return the one way to write this JSON: sorted keys, no spaces, UTF-8, no NaN."""
    words = _WRITER.encode(data)
    # A path can hold bytes that are not UTF-8 (as lone surrogates); it must not stop a run.
    return words.encode("utf-8", "surrogatepass")


def parse(data: bytes) -> Json:
    """Read what `canonical` wrote."""
    return cast(Json, json.loads(data.decode("utf-8", "surrogatepass")))


def digest(data: Json) -> str:
    """Return the SHA-256 of the canonical form, in hex."""
    return hashlib.sha256(canonical(data)).hexdigest()


# ---- classes


_ENCODERS: dict[type, Convert] = {}
_DECODERS: dict[type, Convert] = {}


def _class_encoder(cls: type) -> Convert:
    if cls not in _ENCODERS:
        _ENCODERS[cls] = _encode_text if cls is Text else _make_encoder(cls)
    return _ENCODERS[cls]


def _class_decoder(cls: type) -> Convert:
    if cls not in _DECODERS:
        _DECODERS[cls] = _decode_text if cls is Text else _make_decoder(cls)
    return _DECODERS[cls]


def _make_encoder(cls: type) -> Convert:
    table: list[tuple[str, object, Convert | None]] = []

    def encode(value: Any) -> Object:
        nonlocal table
        if not table:  # not sooner: a class may hold itself; at once: other threads look too
            table = [(f.name, _default(f), _encoder(f.type, cls)) for f in _fields(cls)]
        out: Object = {}
        for name, default, convert in table:
            item = getattr(value, name)
            if item is not default and item != default:
                out[name] = convert(item) if convert else item
        return out

    _fields(cls)
    return encode


def _make_decoder(cls: type) -> Convert:
    table: dict[str, Convert] = {}
    needed = {f.name for f in _fields(cls) if _default(f) is MISSING}

    def decode(data: Any) -> Any:
        nonlocal table
        if not table:
            table = {f.name: _decoder(f.type, cls) for f in _fields(cls)}
        if not isinstance(data, dict):
            raise _wrong(cls.__name__, data)
        if not table.keys() >= data.keys() >= needed:
            odd = sorted((data.keys() - table.keys()) | (needed - data.keys()))
            raise ValueError(f"{cls.__name__}: unknown or missing: {', '.join(odd)}")
        return cls(**{name: table[name](item) for name, item in data.items()})

    return decode


def _fields(cls: type) -> tuple["Field[Any]", ...]:
    if not is_dataclass(cls):
        raise TypeError(f"{cls.__name__} is not written as JSON")
    return fields(cls)


def _default(field: "Field[Any]") -> object:
    if field.default_factory is not MISSING:
        return field.default_factory()
    return field.default


def _members(annotation: Any, owner: type) -> tuple[Any, ...]:
    """Return the types that a field allows, quoted names looked up where its class stands."""
    if isinstance(annotation, str) and annotation != Json:
        names = {**vars(sys.modules[owner.__module__]), "None": NoneType}
        return tuple(names[name] for name in annotation.split(" | "))
    if isinstance(annotation, UnionType) or get_origin(annotation) is Union:
        return get_args(annotation)
    return (annotation,)


def _inner(annotation: Any) -> Any:
    """Return what a `tuple[X, ...]` or a `Mapping[str, X]` holds; None for anything else."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is tuple and args[1:] == (Ellipsis,):
        return args[0]
    if origin is Mapping and args[0] is str:
        return args[1]
    return None


def _classes(members: tuple[Any, ...]) -> dict[str, type]:
    """Return the classes of a union by the name they are tagged with."""
    classes = {m.__name__: m for m in members if is_dataclass(m) and isinstance(m, type)}
    for cls in classes.values():
        if TAG in (f.name for f in fields(cls)):
            raise TypeError(f"{cls.__name__} has a field {TAG!r}, so it can't be in a union")
    return classes


# ---- encoding


def _encoder(annotation: Any, owner: type) -> Convert | None:
    """Return how to write what a field holds; None where it is JSON as it stands."""
    members = _members(annotation, owner)
    some = tuple(m for m in members if m is not NoneType)
    convert = _one_encoder(some[0], owner) if len(some) == 1 else _union_encoder(some)
    if convert is None or len(some) == len(members):
        return convert
    return lambda value: None if value is None else convert(value)


def _one_encoder(annotation: Any, owner: type) -> Convert | None:
    if annotation in (str, int, bool) or get_origin(annotation) is Literal:
        return None
    if annotation is float:
        return float  # 5 and 5.0 are one value and must have one digest
    if annotation == Json:
        return _plain
    if inner := _inner(annotation):
        each = _encoder(inner, owner) or _same
        return _encode_items(each) if get_origin(annotation) is tuple else _encode_mapping(each)
    return _class_encoder(annotation)


def _union_encoder(members: tuple[Any, ...]) -> Convert:
    classes, plain = set(_classes(members).values()), Json in members

    def encode(value: Any) -> Any:
        cls = type(value)
        if cls is Text:
            text = _encode_text(value)
            return {TAG: "Text", WRAPPED: text} if plain else text
        if cls in classes:
            return {TAG: cls.__name__, **_class_encoder(cls)(value)}
        if isinstance(value, Mapping) and plain:
            return {TAG: "Json", WRAPPED: _plain(value)}
        return _plain(value)

    return encode


def _encode_items(each: Convert) -> Convert:
    return lambda value: [each(item) for item in value]


def _encode_mapping(each: Convert) -> Convert:
    return lambda value: {_key(key): each(item) for key, item in value.items()}


def _encode_text(text: Text) -> Any:
    parts = [_encode_part(part) for part in text.parts]
    return parts[0] if len(parts) == 1 and isinstance(parts[0], str) else parts


def _encode_part(part: Fixed | Bound | Late) -> Any:
    if isinstance(part, Fixed):
        return part.text
    return {BOUND: part.value} if isinstance(part, Bound) else _class_encoder(Late)(part)


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, Mapping):
        return {_key(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    raise TypeError(f"{type(value).__name__} is not written as JSON")


def _key(key: Any) -> str:
    if not isinstance(key, str):
        raise TypeError(f"a key of a JSON object must be text: {key!r}")
    return key


def _same(value: Any) -> Any:
    return value


# ---- decoding


def _decoder(annotation: Any, owner: type) -> Convert:
    members = _members(annotation, owner)
    some = tuple(m for m in members if m is not NoneType)
    convert = _one_decoder(some[0], owner) if len(some) == 1 else _union_decoder(some)
    if len(some) == len(members):
        return convert
    return lambda data: None if data is None else convert(data)


def _one_decoder(annotation: Any, owner: type) -> Convert:
    if annotation in (str, int, bool, float):
        return _exactly(annotation)
    if annotation == Json:
        return _same
    if get_origin(annotation) is Literal:
        return _choice(get_args(annotation))
    if inner := _inner(annotation):
        each = _decoder(inner, owner)
        return _decode_items(each) if get_origin(annotation) is tuple else _decode_mapping(each)
    return _class_decoder(annotation)


def _union_decoder(members: tuple[Any, ...]) -> Convert:
    classes, plain = _classes(members), Json in members
    simple = tuple(m for m in members if m in (str, int, bool, float))

    def decode(data: Any) -> Any:
        if not isinstance(data, dict):
            if Text in members and not plain:
                return _decode_text(data)
            if plain or isinstance(data, simple):
                return data
            raise _wrong(" or ".join(classes), data)
        rest = dict(data)
        tag = rest.pop(TAG, None)
        if plain and tag in ("Json", "Text"):
            return rest[WRAPPED] if tag == "Json" else _decode_text(rest[WRAPPED])
        if tag not in classes:
            raise ValueError(f"expected {' or '.join(classes)}, not {tag!r}")
        return _class_decoder(classes[tag])(rest)

    return decode


def _exactly(cls: type) -> Convert:
    def decode(data: Any) -> Any:
        if type(data) is cls:
            return data
        if cls is float and type(data) is int:
            return float(data)
        raise _wrong(cls.__name__, data)

    return decode


def _choice(allowed: tuple[Any, ...]) -> Convert:
    def decode(data: Any) -> Any:
        if isinstance(data, str) and data in allowed:
            return data
        raise _wrong(" or ".join(map(str, allowed)), data)

    return decode


def _decode_items(each: Convert) -> Convert:
    def decode(data: Any) -> Any:
        if not isinstance(data, list):
            raise _wrong("a list", data)
        return tuple([each(item) for item in data])

    return decode


def _decode_mapping(each: Convert) -> Convert:
    def decode(data: Any) -> Any:
        if not isinstance(data, dict):
            raise _wrong("an object", data)
        return {key: each(item) for key, item in data.items()}

    return decode


def _decode_text(data: Any) -> Text:
    if isinstance(data, str):
        return Text(parts=(Fixed(text=data),))
    if not isinstance(data, list):
        raise _wrong("a text", data)
    return Text(parts=tuple(map(_decode_part, data)))


def _decode_part(data: Any) -> Fixed | Bound | Late:
    if isinstance(data, str):
        return Fixed(text=data)
    if isinstance(data, dict) and data.keys() == {BOUND}:
        value = data[BOUND]
        if value is not None and not isinstance(value, str):
            raise _wrong("a bound value", value)
        return Bound(value=value)
    return cast(Late, _class_decoder(Late)(data))


def _wrong(expected: str, data: Any) -> ValueError:
    # The value itself stays out: it may be long, and this text may be shown.
    return ValueError(f"expected {expected}, found {type(data).__name__}")
