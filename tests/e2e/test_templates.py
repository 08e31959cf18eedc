"""Every chat template in llama.cpp's source, over a table of conversations, as the engine renders it and as Jinja2 does, for
which it was written. Where the two differ the reason stands in DIFFERENT, and that they differ is checked too."""

import json
import subprocess
import types
from datetime import datetime

import pytest
from jinja2 import TemplateError, nodes
from jinja2.ext import Extension
from jinja2.sandbox import SandboxedEnvironment

from harness import BIN, GGUF, PATIENCE, TOP

TEMPLATES = TOP / "build" / "deps" / "src" / "llama.cpp" / "models" / "templates"  # put there by the script that builds the dependencies
pytestmark = pytest.mark.slow
BOS, EOS = "<|im_start|>", "<|im_end|>"  # of the vocabulary that the engine's side is given

TOOLS = [{"type": "function", "function": {"name": "get_weather", "description": "Weather of a city",
          "parameters": {"type": "object", "properties": {"city": {"type": "string", "description": "its name"}}, "required": ["city"]}}}]


def call(arguments, id="call_0001"):
    return {"id": id, "type": "function", "function": {"name": "get_weather", "arguments": arguments}}


USER = {"role": "user", "content": "What is the weather in Zürich? <b>&amp;</b>"}
ASSISTANT = {"role": "assistant", "content": "It is \"fine\".\nReally."}
MORE = {"role": "user", "content": "  And tomorrow?\n"}
SYSTEM = {"role": "system", "content": "You are terse."}
CONVERSATIONS = {
    "one question": ([USER], None),
    "a system message": ([SYSTEM, USER], None),
    "several turns": ([USER, ASSISTANT, MORE], None),
    "system and several turns": ([SYSTEM, USER, ASSISTANT, MORE, ASSISTANT, USER], None),
    "tools offered": ([USER], TOOLS),
    "system and tools": ([SYSTEM, USER], TOOLS),
    "a call and its result": ([USER, {"role": "assistant", "content": "", "tool_calls": [call({"city": "Zürich"})]},
                               {"role": "tool", "tool_call_id": "call_0001", "name": "get_weather", "content": "{\"sky\": \"grey\"}"}], TOOLS),
    "an answer after a result": ([SYSTEM, USER, {"role": "assistant", "content": "", "tool_calls": [call({"city": "Zürich"})]},
                                  {"role": "tool", "tool_call_id": "call_0001", "name": "get_weather", "content": "grey"}, ASSISTANT, MORE], TOOLS),
    "thoughts in the history": ([USER, ASSISTANT | {"reasoning_content": "I look it up."}, MORE], None),
}


class Generation(Extension):
    """{% generation %} marks for training what an assistant said; for rendering it is nothing."""
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(["name:endgeneration"], drop_needle=True)).set_lineno(line)


def environment():
    def raise_exception(message):
        raise TemplateError(message)

    def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        value = list(value) if isinstance(value, types.GeneratorType) else value
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    made = SandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", Generation])
    made.filters["tojson"] = tojson
    made.filters["safe"] = lambda text: text  # nothing here is HTML
    made.globals["raise_exception"] = raise_exception
    made.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return made


def with_jinja2(source, messages, tools):
    now = datetime.now()
    values = {"messages": messages, "add_generation_prompt": True, "bos_token": BOS, "eos_token": EOS, "enable_thinking": True,
              "date_string": now.strftime("%d %b %Y"), "datetime": now.strftime("%b %d %Y"), "functions": ""}
    try:
        return environment().from_string(source).render(values | ({"tools": tools} if tools else {}))
    except (TemplateError, TypeError) as refused:
        return refused


def with_engine(cases):
    lines = []
    for source, messages, tools in cases:
        spoken = [message | {"tool_calls": [one | {"function": one["function"] | {"arguments": json.dumps(one["function"]["arguments"], ensure_ascii=False)}}
                                            for one in message["tool_calls"]]} if "tool_calls" in message else message for message in messages]
        lines.append(json.dumps({"template": source, "messages": spoken} | ({"tools": tools} if tools else {})))
    done = subprocess.run([BIN.parent / "testbin" / "render_templates", GGUF], input="\n".join(lines) + "\n", text=True, capture_output=True,
                          timeout=120 * PATIENCE, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


RESULTS = {"a call and its result", "an answer after a result"}
SYSTEMS = {name for name, (messages, _) in CONVERSATIONS.items() if messages[0] is SYSTEM}

# Template: (the conversations of the table that are rendered otherwise, why).
DIFFERENT = {
    "StepFun3.5-Flash.jinja": ({"several turns", "system and several turns", "an answer after a result", "thoughts in the history"},
                               "this model was trained on messages without the white space around them, so the library takes it away"),
    "google-gemma-2-2b-it.jinja": (SYSTEMS - RESULTS, "it refuses system messages, so theirs stands before the first user message"),
    "google-gemma-4-31B-it-interleaved.jinja": (RESULTS, "it wants results inside of the model's turn, and the library puts them there"),
    "meetkai-functionary-medium-v3.2.jinja": (RESULTS, "it wants the arguments of calls as text and gets them so"),
    "mistralai-Ministral-3-14B-Reasoning-2512.jinja": ({"thoughts in the history"}, "it wants thoughts as parts of the content and gets them so"),
}
NAMES = sorted(path.name for path in TEMPLATES.glob("*.jinja"))


def test_the_templates_of_the_source_are_here():
    assert len(NAMES) >= 70
    assert set(DIFFERENT) <= set(NAMES)


@pytest.fixture(scope="module")
def engine_says():
    """What the engine makes of a template over all conversations; asked once, and again when the day has changed meanwhile."""
    said = {}

    def ask(name):
        today = datetime.now().date()
        if said.get("day") != today:
            cases = [((TEMPLATES / name).read_text(), *conversation) for name in NAMES for conversation in CONVERSATIONS.values()]
            said.update(day=today, texts=dict(zip(((name, conversation) for name in NAMES for conversation in CONVERSATIONS), with_engine(cases))))
        return {conversation: said["texts"][name, conversation] for conversation in CONVERSATIONS}

    return ask


@pytest.mark.parametrize("name", NAMES)
def test_the_engine_renders_as_jinja2_does(engine_says, name):
    source = (TEMPLATES / name).read_text()
    different = set()
    for conversation, said in engine_says(name).items():
        expected = with_jinja2(source, *CONVERSATIONS[conversation])
        if not (("error" in said) if isinstance(expected, Exception) else said.get("prompt") == expected):
            different.add(conversation)
            if name not in DIFFERENT:
                assert said.get("prompt", said) == expected, conversation
    expected, why = DIFFERENT.get(name, (set(), None))
    assert different == expected, why


def test_no_template_loses_what_was_said_beside_thoughts(engine_says):
    for name in NAMES:
        said = engine_says(name)["thoughts in the history"]
        assert "Really." in said.get("prompt", "Really."), name
