"""The OpenAPI document names the routes of the route table, and no others."""

import json
import re
from pathlib import Path

import jsonschema

TOP = Path(__file__).resolve().parents[2]
DOCUMENT = json.loads((TOP / "src/coordinator/openapi.json").read_text())


def table():
    """{(METHOD, path)} of the routes that the server has, its stars as parameters."""
    source = (TOP / "src/coordinator/server.c").read_text()
    rows = re.findall(r'^\s*\{"([A-Z]+)", "(/[^"]*)",', source, re.M)
    assert len(rows) > 20, "the route table was not found"
    return {(method, path.replace("*", "{id}")) for method, path in rows}


def test_every_route_is_described_and_no_other():
    described = {(method.upper(), path) for path, methods in DOCUMENT["paths"].items() for method in methods}
    assert table() - described == set(), "describe these routes in src/coordinator/openapi.json"
    assert described - table() == set(), "these are described in src/coordinator/openapi.json, but there is no such route"


def test_document_is_sound():
    assert DOCUMENT["openapi"] == "3.1.0"
    names = set()
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            assert operation["operationId"] not in names
            names.add(operation["operationId"])
            assert operation["summary"] and operation["responses"], (method, path)
            assert ("{id}" in path) == any(one["in"] == "path" for one in operation.get("parameters", [])), path
    for reference in re.findall(r'"\$ref": ?"#/([^"]*)"', json.dumps(DOCUMENT)):
        here = DOCUMENT
        for part in reference.split("/"):
            here = here[part]
    for schema in DOCUMENT["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
