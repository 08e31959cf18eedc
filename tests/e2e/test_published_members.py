"""Every member that the installed SDKs' types know, read out of the types themselves: it is in our answers, or it stands here with
the reason why not. A new version of a package that brings a new member makes this file fail and shows its name."""

import json
import types
import typing

import pydantic
import pytest

from harness import MODEL
from python_provider import wait_standing
from test_other_sdks import Tooling
from test_schemas import BODIES, EVENT, TOOLS, WHOLE, events

# What answers here do not have, by type, and why. None is required by the types: they read every answer strictly.
NOT_SAID = {
    # sound, and functions as they were before tools
    "ChatCompletionMessage": {"annotations", "audio", "function_call"},
    "ChoiceDelta": {"audio", "function_call", "refusal"},
    # tiers, fingerprints, moderation and padding of the service itself
    "ChatCompletion": {"metadata", "moderation", "service_tier", "system_fingerprint"},
    "ChatCompletionChunk": {"moderation", "obfuscation", "service_tier", "system_fingerprint"},
    "Completion": {"system_fingerprint"},
    # said when there is something to say: tokens from the cache, tokens of thoughts
    "CompletionUsage": {"completion_tokens_details", "prompt_tokens_details"},
    "CompletionTokensDetails": {"accepted_prediction_tokens", "audio_tokens", "rejected_prediction_tokens", "text_tokens"},
    "PromptTokensDetails": {"audio_tokens", "cache_write_tokens", "image_tokens", "text_tokens"},
    # conversations and prompts that are kept there, tools that run there, diagnostics of its cache
    "Response": {"access_programs", "conversation", "image", "input_transformations", "moderation", "prompt", "prompt_cache_diagnostics",
                 "prompt_cache_options", "prompt_cache_retention", "tool_usage"},
    "InputTokensDetails": {"cache_write_tokens_details"},
    "Reasoning": {"context", "generate_summary", "mode"},
    "ResponseOutputMessage": {"phase"},
    "ResponseReasoningItem": {"content", "encrypted_content"},
    "ResponseReasoningSummaryPartDoneEvent": {"status"},
    "ResponseFunctionToolCall": {"async", "caller", "namespace"},
    "FunctionTool": {"allowed_callers", "async", "defer_loading", "output_schema"},
    "ToolUseBlock": {"toolset_name"},
}


def alternatives(annotation):
    """The types that a member may have, unions and lists opened."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return alternatives(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        return [one for part in typing.get_args(annotation) for one in alternatives(part)]
    return [annotation]


def models_of(annotation):
    return [one for one in alternatives(annotation) if isinstance(one, type) and issubclass(one, pydantic.BaseModel)]


def fitting(models, data):
    """The model that this object is of: the one whose literal members agree, strictly read."""
    for model in models:
        try:
            model.model_validate_json(json.dumps(data), strict=True)
        except pydantic.ValidationError:
            continue
        return model
    raise AssertionError(f"{data} is none of {[model.__name__ for model in models]}")


def collect(annotation, data, seen, missing):
    """Adds the members of each type that came along, and those that did not."""
    lists = [one for one in alternatives(annotation) if typing.get_origin(one) is list]
    if isinstance(data, list) and lists:
        for item in data:
            collect(typing.get_args(lists[0])[0], item, seen, missing)
        return
    models = models_of(annotation)
    if not isinstance(data, dict) or not models:
        return
    model = fitting(models, data) if len(models) > 1 else models[0]
    for name, field in model.model_fields.items():
        told = field.alias or name
        if told not in data:
            missing.setdefault(model.__name__, set()).add(told)
            continue
        seen.setdefault(model.__name__, set()).add(told)
        collect(field.annotation, data[told], seen, missing)


@pytest.fixture(scope="module")
def node(house):
    made = house.coordinator()
    house.provider(MODEL)
    house.provider("plain", {"text": "one two three"})
    tooling = Tooling(made, "PY0001", "tooling").start()
    wait_standing(made, "PY0001", "self_signed", "online")
    made.wait_routable("tooling")
    yield made
    assert tooling.failure is None
    tooling.stop()


LOGPROBS = {
    "/v1/chat/completions": {"logprobs": True, "top_logprobs": 1}, "/v1/completions": {"logprobs": 1},
    "/v1/responses": {"include": ["message.output_text.logprobs"], "top_logprobs": 1}, "/v1/messages": {},
}


def bodies(path):
    limit = {"max_output_tokens": 16} if path == "/v1/responses" else {"max_tokens": 4}
    yield BODIES[path]
    yield BODIES[path] | LOGPROBS[path] | limit | {"model": MODEL}
    if path in TOOLS:
        yield BODIES[path] | {"model": "tooling", "tools": TOOLS[path]}
    if path in ("/v1/chat/completions", "/v1/completions"):
        yield BODIES[path] | {"stream_options": {"include_usage": True}}


@pytest.mark.parametrize("path", BODIES)
def test_members_of_whole_answers_are_said_or_listed(node, path):
    seen, missing = {}, {}
    for body in bodies(path):
        answer = node.client.post(path, json={name: value for name, value in body.items() if name != "stream_options"})
        assert answer.status_code == 200, answer.text
        collect(WHOLE[path], answer.json(), seen, missing)
    check(seen, missing)


@pytest.mark.parametrize("path", BODIES)
def test_members_of_events_are_said_or_listed(node, path):
    seen, missing = {}, {}
    for body in bodies(path):
        for name, data in events(node, path, body):
            if name == "ping":
                continue
            if path == "/v1/completions":  # null until the end, as in the original's own streams
                data = data | {"choices": [choice | {"finish_reason": choice["finish_reason"] or "stop"} for choice in data["choices"]]}
            collect(EVENT[path], data, seen, missing)
    check(seen, missing)


def check(seen, missing):
    never = {kind: names - seen.get(kind, set()) - NOT_SAID.get(kind, set()) for kind, names in missing.items()}
    assert not any(never.values()), f"new members of the published types that no answer has: { {kind: names for kind, names in never.items() if names} }"
    required = {(kind, name) for kind, names in missing.items() for name in names if kind in REQUIRED and name in REQUIRED[kind]}
    assert not required


def required_members(*roots):
    """Type name -> members without a default, of all types that can be reached from these."""
    found, left = {}, list(roots)
    while left:
        for model in models_of(left.pop()):
            if model.__name__ in found:
                continue
            found[model.__name__] = {field.alias or name for name, field in model.model_fields.items() if field.is_required()}
            for field in model.model_fields.values():
                left.append(field.annotation)
                left += [part for one in alternatives(field.annotation) for part in typing.get_args(one)]
    return found


REQUIRED = required_members(*WHOLE.values(), *EVENT.values())


def test_the_lists_name_no_member_that_is_required():
    assert len(REQUIRED) > 100
    assert not [(kind, name) for kind, names in NOT_SAID.items() for name in names if name in REQUIRED.get(kind, set())]
