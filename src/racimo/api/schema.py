"""The table as an OpenAPI 3.1 document."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from pydantic import JsonValue, TypeAdapter

from racimo import __version__

if TYPE_CHECKING:
    from racimo.api.endpoint import Endpoint, Table

Schema = dict[str, JsonValue]
_OBJECT: TypeAdapter[Schema] = TypeAdapter(Schema)


def openapi(table: Table) -> bytes:
    """The document, as JSON."""
    paths: dict[str, JsonValue] = {}
    for row in table:
        rows = paths.setdefault(row.path.replace("*}", "}"), {})
        if isinstance(rows, dict):
            rows[row.method.lower()] = dict(_operation(row))
    document: Schema = {
        "openapi": "3.1.0",
        "info": {"title": "Racimo", "version": __version__, "description": "Compatible with the Proxmox VE API."},
        "servers": [{"url": "/api2/json"}],
        "paths": paths,
    }
    return json.dumps(document, separators=(",", ":")).encode()


def _operation(row: Endpoint) -> Schema:
    schema = _OBJECT.validate_python(row.parameters.model_json_schema())
    in_path = set(re.findall(r"\{([a-z0-9_]+)\*?\}", row.path))
    properties = schema.get("properties")
    fields = properties if isinstance(properties, dict) else {}
    required = schema.get("required")
    needed = set(map(str, required)) if isinstance(required, list) else set()
    in_query = row.method in ("GET", "DELETE")
    operation: Schema = {
        "summary": row.summary,
        "operationId": f"{row.method.lower()}{re.sub(r'[^a-z0-9]+', '_', row.path.lower()).rstrip('_')}",
        "x-racimo-permission": str(row.permission),
        "x-racimo-answers": str(row.answers),
        "x-racimo-task": row.task,
        "x-racimo-indexed": dict(row.parameters.indexed),
        "parameters": list[JsonValue](
            [
                {
                    "name": name,
                    "in": "path" if name in in_path else "query",
                    "required": name in in_path or name in needed,
                    "schema": field,
                }
                for name, field in fields.items()
                if name in in_path or in_query
            ]
        ),
        "responses": {
            "200": {"description": "A UPID." if row.task else "The result under data.", "content": _result(row)}
        },
    }
    body = {name: field for name, field in fields.items() if name not in in_path}
    if body and not in_query:
        form: Schema = {"type": "object", "properties": body, "required": list[JsonValue](sorted(needed - in_path))}
        kinds = ("application/json", "application/x-www-form-urlencoded")
        operation["requestBody"] = {"content": {kind: {"schema": form} for kind in kinds}}
    if isinstance(schema.get("$defs"), dict):
        operation["x-defs"] = schema["$defs"]
    return operation


def _json_schema(kind: Any) -> object:
    return TypeAdapter(kind).json_schema()


def _result(row: Endpoint) -> Schema:
    result: JsonValue = {"type": "string"} if row.task else {}
    if row.result is not None:
        result = dict(_OBJECT.validate_python(_json_schema(row.result)))
    return {"application/json": {"schema": {"type": "object", "properties": {"data": result}}}}
