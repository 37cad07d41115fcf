"""The OpenAPI document of the HTTP server."""

from __future__ import annotations

from typing import Any

from .protocol import DATATYPES, LENGTH_HEADER
from .repository import VERSION


def openapi(version: str, models: list[str]) -> dict[str, Any]:
    """The document for OpenAPI 3.1.

    Args:
        version: of cnnrt.
        models: the names of the models.
    """
    name = _parameter("model", "The name of a model.", models)
    number = _parameter("version", "The version of a model.", [VERSION])
    paths: dict[str, Any] = {
        "/v2/health/live": _get("Whether the server runs.", "Live"),
        "/v2/health/ready": _get("Whether all models are loaded.", "Ready", also=("503",)),
        "/v2": _get("Name, version and extensions of the server.", "Server"),
        "/metrics": {
            "get": {
                "summary": "Counters for Prometheus.",
                "responses": {"200": {"description": "Text.", "content": {"text/plain": {}}}},
            }
        },
        "/v2/repository/index": _post("The models.", "Index", "IndexRequest", required=False),
        "/v2/repository/models/{model}/load": _post("Loads a model.", "Empty", parameters=[name]),
        "/v2/repository/models/{model}/unload": _post(
            "Unloads a model.", "Empty", parameters=[name]
        ),
        "/v2/models/{model}/classify": {
            "post": {
                "summary": "The classes of an image.",
                "parameters": [
                    name,
                    {
                        "name": "top",
                        "in": "query",
                        "schema": {"type": "integer", "minimum": 1, "maximum": 1000},
                    },
                    {
                        "name": "map",
                        "in": "query",
                        "description": "1: adds the class activation map of the likeliest class.",
                        "schema": {"type": "integer", "enum": [0, 1]},
                    },
                ],
                "requestBody": {"required": True, "content": {"image/*": {}}},
                "responses": _responses("Classes", ("400", "404", "413", "429", "504")),
            }
        },
    }
    for path, given in (
        ("/v2/models/{model}", [name]),
        ("/v2/models/{model}/versions/{version}", [name, number]),
    ):
        paths[path] = _get("Inputs and outputs.", "Metadata", given, ("400", "404"))
        paths[f"{path}/ready"] = _get(
            "Whether a model is loaded.", "ModelReady", given, ("404", "503")
        )
        paths[f"{path}/infer"] = {
            "post": {
                "summary": "Runs a model.",
                "parameters": [
                    *given,
                    {
                        "name": LENGTH_HEADER,
                        "in": "header",
                        "description": "Bytes of JSON before binary tensors.",
                        "schema": {"type": "integer", "minimum": 0},
                    },
                ],
                "requestBody": {
                    "required": True,
                    "content": {
                        "application/json": {"schema": _ref("Infer")},
                        "application/octet-stream": {},
                    },
                },
                "responses": _responses("Inferred", ("400", "404", "408", "413", "429", "504")),
            }
        }
    return {
        "openapi": "3.1.0",
        "info": {"title": "cnnrt", "version": version},
        "paths": paths,
        "components": {"schemas": _SCHEMAS},
    }


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _parameter(name: str, description: str, values: list[str]) -> dict[str, Any]:
    schema = {"type": "string", "enum": values}
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": description,
        "schema": schema,
    }


def _responses(schema: str, errors: tuple[str, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "200": {
            "description": "The answer.",
            "content": {"application/json": {"schema": _ref(schema)}},
        }
    }
    for code in errors:
        found[code] = {
            "description": "An error.",
            "content": {"application/json": {"schema": _ref("Error")}},
        }
    return found


def _get(
    summary: str, schema: str, parameters: list[Any] | None = None, also: tuple[str, ...] = ()
) -> dict[str, Any]:
    responses = _responses(schema, tuple(code for code in also if code != "503"))
    if "503" in also:
        responses["503"] = {**responses["200"], "description": "Not yet."}
    return {"get": {"summary": summary, "parameters": parameters or [], "responses": responses}}


def _post(
    summary: str,
    schema: str,
    body: str | None = None,
    parameters: list[Any] | None = None,
    *,
    required: bool = False,
) -> dict[str, Any]:
    one: dict[str, Any] = {
        "summary": summary,
        "parameters": parameters or [],
        "responses": _responses(schema, ("400", "404", "413")),
    }
    if body:
        one["requestBody"] = {
            "required": required,
            "content": {"application/json": {"schema": _ref(body)}},
        }
    return {"post": one}


def _object(required: str = "", **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": required.split(), "properties": properties}


def _list(items: Any) -> dict[str, Any]:
    return {"type": "array", "items": items}


_TEXT, _BOOL, _INT = {"type": "string"}, {"type": "boolean"}, {"type": "integer"}
_NUMBER = {"type": "number"}
_DATATYPE = {"type": "string", "enum": list(DATATYPES.values())}
_SHAPE = _list({"type": "integer", "minimum": 0})
_PARAMETERS = {"type": "object"}
_TENSOR = {"name": _TEXT, "datatype": _DATATYPE, "shape": _SHAPE, "parameters": _PARAMETERS}
_SCHEMAS: dict[str, Any] = {
    "Error": _object("error", error=_TEXT),
    "Empty": {"type": "object"},
    "Live": _object("live", live=_BOOL),
    "Ready": _object("ready", ready=_BOOL),
    "ModelReady": _object("name ready", name=_TEXT, ready=_BOOL),
    "Server": _object(
        "name version extensions", name=_TEXT, version=_TEXT, extensions=_list(_TEXT)
    ),
    "IndexRequest": _object(ready=_BOOL),
    "Index": _list(
        _object("name version state reason", name=_TEXT, version=_TEXT, state=_TEXT, reason=_TEXT)
    ),
    "Metadata": _object(
        "name versions platform inputs outputs",
        name=_TEXT,
        versions=_list(_TEXT),
        platform=_TEXT,
        inputs=_list(
            _object("name datatype shape", name=_TEXT, datatype=_DATATYPE, shape=_list(_INT))
        ),
        outputs=_list(
            _object("name datatype shape", name=_TEXT, datatype=_DATATYPE, shape=_list(_INT))
        ),
    ),
    "Infer": _object(
        "inputs",
        id=_TEXT,
        parameters=_PARAMETERS,
        inputs=_list(_object("name datatype shape", **_TENSOR, data={"type": "array"})),
        outputs=_list(_object("name", name=_TEXT, parameters=_PARAMETERS)),
    ),
    "Inferred": _object(
        "model_name outputs",
        model_name=_TEXT,
        model_version=_TEXT,
        id=_TEXT,
        outputs=_list(_object("name datatype shape", **_TENSOR, data={"type": "array"})),
    ),
    "Classes": _object(
        "model_name classes milliseconds",
        model_name=_TEXT,
        milliseconds=_NUMBER,
        classes=_list(
            _object("label index probability", label=_TEXT, index=_INT, probability=_NUMBER)
        ),
        map={"oneOf": [{"type": "null"}, _ref("Map")]},
    ),
    "Map": {
        "description": "The places that speak for a class: rows of values, and the part of the "
        "picture that they cover, as fractions of its width and height from the top left.",
        **_object(
            "label index box values",
            label=_TEXT,
            index=_INT,
            box={**_list(_NUMBER), "minItems": 4, "maxItems": 4},
            values=_list(_list(_NUMBER)),
        ),
    },
}
