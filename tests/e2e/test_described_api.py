"""The OpenAPI document that the coordinator serves, and what it does when a generator calls everything that is described there:
no crash, no status or body that the document does not allow, nothing charged for what was refused."""

import json

import hypothesis
import pytest
import schemathesis
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance

from harness import PATIENCE, TOP

EXAMPLES = 6  # of each operation: enough to walk every branch of the schemas over time, short enough for every run
# Not called: a WebSocket, pages for people, and what would take the coordinator away from the other calls.
SPARED = {"/ws/provider", "/login", "/signup", "/link", "/logout", "/v1/admin/drain", "/v1/auth/keys"}


@pytest.fixture(scope="module")
def node(house):
    made = house.coordinator(MNEMONIC="legal winner thank year wave sausage worth useful legal winner thank yellow")
    house.provider("plain", {"text": "one two three"})
    return made


def test_the_document_is_served(node):
    response = node.client.get("/openapi.json", headers={"Authorization": ""})
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("application/json")
    assert response.json() == json.loads((TOP / "src/coordinator/openapi.json").read_text())


def operations(document):
    for path, methods in document["paths"].items():
        for method in methods:
            if path not in SPARED:
                yield method.upper(), path


def refusal_is_honest(context, response, case):
    """No server error but 503, where no provider can take what was generated (a machine that does not exist, a size that none has) and
    where no payments are set up."""
    if response.status_code >= 500:
        error = response.json()["error"]
        assert response.status_code == 503 and error["type"] in ("model_unavailable", "overloaded_error", "billing_error"), response.text


@pytest.mark.parametrize("known_model", [True, False])
def test_generated_calls_are_answered_as_described(node, known_model):
    document = node.get("/openapi.json")
    if known_model:  # otherwise most generated requests end as 404
        for schema in document["components"]["schemas"].values():
            if "model" in schema.get("properties", {}) and "messages" in schema["properties"] | {"messages": 0}:
                schema["properties"]["model"] = {"const": "plain"}
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=node.url)
    headers = {"Authorization": f"Bearer {node.key}"}
    checks = [refusal_is_honest, content_type_conformance, response_schema_conformance]
    called, wrong = 0, []
    for method, path in operations(document):
        operation = schema[path][method]

        @hypothesis.settings(max_examples=EXAMPLES, deadline=None, database=None, derandomize=True, phases=[hypothesis.Phase.generate],
                             suppress_health_check=list(hypothesis.HealthCheck))
        @hypothesis.given(case=operation.as_strategy())
        def call(case):
            nonlocal called
            called += 1
            case.call_and_validate(headers=headers, checks=checks, timeout=60 * PATIENCE)

        try:
            call()
        except FailureGroup as failure:
            wrong.append(f"{method} {path}: {failure} {[str(one) for one in failure.exceptions]}")
        node.check_alive()
    assert not wrong, "\n".join(wrong)
    assert called > 100
    node.check_books()
