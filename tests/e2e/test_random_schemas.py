"""Answers under random JSON schemas, from the real model: each is JSON, and valid by a validator that is not ours. How many
schemas: DARKBLOOM_SCHEMAS (default 5); the long run is `DARKBLOOM_SCHEMAS=100 pytest tests/e2e/test_random_schemas.py`."""

import json
import os
import random

import jsonschema
import pytest

from harness import MODEL

COUNT = int(os.environ.get("DARKBLOOM_SCHEMAS", "5"))
pytestmark = pytest.mark.slow
WORDS = ["name", "size", "colour", "parts", "kind", "when", "Zürich", "a \"quoted\" key", "x-y_z"]


def scalar(rng):
    return rng.choice([
        lambda: {"type": "boolean"},
        lambda: {"type": "null"},
        lambda: {"type": "integer", "minimum": (low := rng.randint(-50, 50)), "maximum": low + rng.randint(0, 100)},
        lambda: {"enum": rng.sample(["red", "green", 3, None, True, "blue sky"], rng.randint(1, 3))},
        lambda: {"const": rng.choice(["fixed", 7, False])},
        lambda: {"type": "string", "minLength": (least := rng.randint(0, 3)), "maxLength": least + rng.randint(1, 8)},
        lambda: {"type": "string", "pattern": rng.choice(["^[a-c]{2,4}$", "^(yes|no)$", "^[0-9]{3}-[0-9]{2}$"])},
    ])()


def schema(rng, depth):
    if depth == 0:
        return scalar(rng)
    kind = rng.choice(["object", "object", "array", "either", "scalar"])
    if kind == "array":
        least = rng.randint(0, 2)
        return {"type": "array", "items": schema(rng, depth - 1), "minItems": least, "maxItems": least + rng.randint(0, 2)}
    if kind == "either":
        return {"anyOf": [schema(rng, depth - 1) for _ in range(2)]}
    return an_object(rng, depth) if kind == "object" else scalar(rng)


def an_object(rng, depth):
    names = rng.sample(WORDS, rng.randint(1, 3))
    return {"type": "object", "properties": {name: schema(rng, depth - 1) for name in names},
            "required": rng.sample(names, rng.randint(0, len(names))), "additionalProperties": False}


def test_answers_are_valid_by_their_schemas(coordinator, provider):
    node = coordinator({"accounts": {"first_grant_usd": "1000"}})
    provider(node)
    ended = 0
    for seed in range(COUNT):
        asked = an_object(random.Random(seed), 2)
        answer = node.chat(MODEL, "Describe a small boat as JSON.", temperature=0.7, seed=seed, max_tokens=200,
                           response_format={"type": "json_schema", "json_schema": {"name": "boat", "strict": True, "schema": asked}})
        if answer.status_code == 422 and "max_tokens" in answer.text:  # white space or digits without end: what came is no whole document
            continue
        assert answer.status_code == 200, (asked, answer.text)
        choice = answer.json()["choices"][0]
        ended += choice["finish_reason"] == "stop"
        jsonschema.validate(json.loads(choice["message"]["content"]), asked)
    assert ended >= COUNT * 8 // 10
    node.check_books()
