"""What is wrong with an entry, in words: the field, the mistake and the allowed values."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import BaseModel

from imagegen.models.weights import Weights


def explain(error: Any, kind: type[Weights]) -> str:
    """Format a pydantic error as `field: what is wrong; allowed: …`."""
    loc = [part for part in error["loc"] if not str(part).startswith(("function-", "int", "float", "str"))]
    field = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in loc).lstrip(".") or "the entry"
    if error["type"] == "extra_forbidden":
        return f"{field}: is not a field; allowed: {', '.join(_fields(loc[:-1], kind))}"
    allowed = _description(loc, kind)
    hint = f"; allowed: {allowed}" if allowed else ""
    if error["type"] == "missing":
        return f"{field}: is missing{hint}"
    message = error["msg"].removeprefix("Value error, ")
    return f"{field}: {message}, not {error['input']!r}{hint}" if hint else f"{field}: {message}"


def _model_at(loc: list[Any], kind: type[Weights]) -> type[BaseModel] | None:
    model: type[BaseModel] | None = kind
    for part in loc:
        if isinstance(part, int) or model is None:
            continue
        names = {f.alias or n: f for n, f in model.model_fields.items()}
        found = names.get(part)
        model = next((a for a in _types(found.annotation) if issubclass(a, BaseModel)), None) if found else None
    return model


def _types(annotation: Any) -> list[type]:
    inner = get_args(annotation)
    if inner:
        return [t for a in inner for t in _types(a)]
    return [annotation] if isinstance(annotation, type) else []


def _fields(loc: list[Any], kind: type[Weights]) -> list[str]:
    model = _model_at(loc, kind)
    names = sorted(f.alias or n for n, f in model.model_fields.items()) if model else []
    return sorted([*names, "base"]) if model is kind else names


def _description(loc: list[Any], kind: type[Weights]) -> str | None:
    model = _model_at(loc[:-1], kind)
    if model is None or not loc:
        return None
    return next((f.description for n, f in model.model_fields.items() if (f.alias or n) == loc[-1]), None)
