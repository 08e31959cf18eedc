#include "provider/engine/chat_shim.h"

#include "chat.h"
#include "common.h"
#include "json-schema-to-grammar.h"
#include "llama.h"
#include "log.h"
#include "reasoning-budget.h"

#include <climits>
#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <random>
#include <string>
#include <vector>

#if defined(__APPLE__)
#include <malloc/malloc.h>
#else
#include <malloc.h>
#endif

// --- a wiping allocator for everything C++ in this process ---------------------------------------------------------------

static size_t block_size(void *at)
{
#if defined(__APPLE__)
	return malloc_size(at);
#else
	return malloc_usable_size(at);
#endif
}

static void wipe(void *at, size_t len)
{
	std::memset(at, 0, len);
	__asm__ __volatile__("" : : "r"(at) : "memory"); // the compiler must not drop a store to memory that is freed next
}

static void *allocate(size_t len)
{
	for (;;) {
		if (void *at = std::malloc(len ? len : 1))
			return at;
		std::new_handler handler = std::get_new_handler();
		if (!handler)
			throw std::bad_alloc();
		handler();
	}
}

void *operator new(size_t len)
{
	return allocate(len);
}

void *operator new[](size_t len)
{
	return allocate(len);
}

void operator delete(void *at) noexcept
{
	if (!at)
		return;
	wipe(at, block_size(at));
	std::free(at);
}

void operator delete[](void *at) noexcept
{
	operator delete(at);
}

void operator delete(void *at, size_t) noexcept
{
	operator delete(at);
}

void operator delete[](void *at, size_t) noexcept
{
	operator delete(at);
}

// --- process -------------------------------------------------------------------------------------------------------------

void chat_shim_init(void)
{
	common_log_set_verbosity_thold(INT_MIN);
}

int32_t chat_shim_default_threads(void)
{
	int32_t threads = common_cpu_get_num_math();
	return threads > 0 ? threads : 1;
}

static void say(char *error, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));
static void say(char *error, size_t size, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	if (size)
		vsnprintf(error, size, format, args);
	va_end(args);
}

// --- templates -----------------------------------------------------------------------------------------------------------

struct chat_templates {
	common_chat_templates_ptr templates;
	const llama_model *model = nullptr;
	std::string source;
};

struct chat_templates *chat_templates_new(const struct llama_model *model, const char *override_or_null, char *error,
                                          size_t error_size)
{
	try {
		auto result = std::make_unique<chat_templates>();
		result->templates = common_chat_templates_init(model, override_or_null ? override_or_null : "");
		result->model = model;
		result->source = common_chat_templates_source(result->templates.get());
		return result.release();
	} catch (const std::exception &) {
		say(error, error_size, "the model's chat template does not parse");
		return nullptr;
	}
}

void chat_templates_free(struct chat_templates *templates)
{
	delete templates;
}

// A template refuses a conversation with raise_exception('...'). Its words are shown only when they stand verbatim in the
// template, so that nothing of the conversation can be in them.
static std::string refusal(const std::string &source, const std::string &what)
{
	static const std::string marker = "Jinja Exception: ";
	size_t from = what.rfind(marker);
	if (from == std::string::npos)
		return "";
	from += marker.size();
	std::string words = what.substr(from, what.find('\n', from) - from);
	bool verbatim = words.size() >= 8 && words.size() < 200 && source.find(words) != std::string::npos;
	return verbatim ? words : "";
}

// --- grammar -------------------------------------------------------------------------------------------------------------

struct chat_grammar {
	llama_sampler *grammar = nullptr;
	llama_sampler *thinking = nullptr; // tells when a lazy grammar must sleep because the model is thinking
	bool lazy = false;

	~chat_grammar()
	{
		llama_sampler_free(grammar);
		llama_sampler_free(thinking);
	}

	bool asleep() const
	{
		if (!lazy || !thinking)
			return false;
		auto state = common_reasoning_budget_get_state(thinking);
		return state != REASONING_BUDGET_IDLE && state != REASONING_BUDGET_DONE;
	}
};

static std::vector<llama_token> generation_tokens(const llama_vocab *vocab, const std::string &prompt)
{
	auto tokens = common_tokenize(vocab, prompt, false, true);
	// some tokenizers put a space before a first special token
	if (!tokens.empty() && !prompt.empty() && !std::isspace((unsigned char)prompt[0])) {
		std::string piece = common_token_to_piece(vocab, tokens[0], true);
		if (!piece.empty() && std::isspace((unsigned char)piece[0]))
			tokens.erase(tokens.begin());
	}
	return tokens;
}

// `at_once`: the answer must begin with what a lazy grammar otherwise only waits for.
static std::unique_ptr<chat_grammar> make_grammar(const llama_vocab *vocab, const common_chat_params &params, bool at_once)
{
	auto result = std::make_unique<chat_grammar>();
	result->lazy = params.grammar_lazy && !at_once;

	std::vector<std::string> patterns;
	std::vector<llama_token> tokens;
	for (const auto &trigger : params.grammar_triggers) {
		switch (trigger.type) {
		case COMMON_GRAMMAR_TRIGGER_TYPE_WORD: {
			auto ids = common_tokenize(vocab, trigger.value, false, true);
			if (ids.size() == 1)
				tokens.push_back(ids[0]);
			else
				patterns.push_back(regex_escape(trigger.value));
			break;
		}
		case COMMON_GRAMMAR_TRIGGER_TYPE_PATTERN:
			patterns.push_back(trigger.value);
			break;
		case COMMON_GRAMMAR_TRIGGER_TYPE_PATTERN_FULL: {
			const auto &text = trigger.value;
			std::string whole = text.empty() || text.front() != '^' ? "^" + text : text;
			patterns.push_back(whole.back() == '$' ? whole : whole + "$");
			break;
		}
		case COMMON_GRAMMAR_TRIGGER_TYPE_TOKEN:
			tokens.push_back(trigger.token);
			break;
		}
	}
	if (result->lazy) {
		std::vector<const char *> texts;
		for (const auto &pattern : patterns)
			texts.push_back(pattern.c_str());
		result->grammar = llama_sampler_init_grammar_lazy_patterns(vocab, params.grammar.c_str(), "root", texts.data(),
		                                                           texts.size(), tokens.data(), tokens.size());
	} else {
		result->grammar = llama_sampler_init_grammar(vocab, params.grammar.c_str(), "root");
	}
	if (!result->grammar)
		throw std::invalid_argument("grammar");

	auto prefill = generation_tokens(vocab, params.generation_prompt);
	if (!params.grammar_lazy) // such a grammar begins with the generation prompt
		for (llama_token token : prefill)
			llama_sampler_accept(result->grammar, token);
	if (result->lazy && !params.thinking_start_tag.empty() && !params.thinking_end_tags.empty()) {
		std::vector<llama_tokens> ends;
		for (const auto &tag : params.thinking_end_tags)
			ends.push_back(common_tokenize(vocab, tag, false, true));
		result->thinking = common_reasoning_budget_init(vocab, {common_tokenize(vocab, params.thinking_start_tag, false, true)},
		                                                ends, {}, INT_MAX);
		for (llama_token token : prefill)
			llama_sampler_accept(result->thinking, token);
	}
	return result;
}

void chat_grammar_apply(struct chat_grammar *grammar, struct llama_token_data_array *candidates)
{
	if (grammar->asleep())
		return;
	try {
		llama_sampler_apply(grammar->grammar, candidates);
	} catch (const std::exception &) {
		// an unusable grammar allows nothing; the caller sees that every candidate is gone
		for (size_t i = 0; i < candidates->size; i++)
			candidates->data[i].logit = -INFINITY;
	}
}

bool chat_grammar_accept(struct chat_grammar *grammar, int32_t token)
{
	try {
		bool asleep = grammar->asleep();
		if (grammar->thinking) {
			llama_sampler_accept(grammar->thinking, token);
			const llama_tokens *end = common_reasoning_budget_get_end_match(grammar->thinking);
			if (asleep && !grammar->asleep() && end) // the end of thinking may be what triggers the grammar
				for (llama_token id : *end)
					llama_sampler_accept(grammar->grammar, id);
		}
		if (!asleep)
			llama_sampler_accept(grammar->grammar, token);
		return true;
	} catch (const std::exception &) {
		return false;
	}
}

// --- reader --------------------------------------------------------------------------------------------------------------

struct chat_reader {
	struct sent_call {
		std::string id;
		bool named = false;
		size_t arguments = 0;
	};

	common_chat_parser_params params;
	std::string text;
	size_t sent_content = 0, sent_reasoning = 0;
	std::vector<sent_call> sent_calls;
	std::string content, reasoning, calls_json; // what the last delta points to

	static std::string new_id()
	{
		static const char letters[] = "0123456789abcdefghijklmnopqrstuvwxyz";
		std::random_device random;
		std::string id = "call_";
		for (int i = 0; i < 24; i++)
			id += letters[random() % (sizeof letters - 1)];
		return id;
	}

	// Deltas of the calls. A call's name is given out once it can no longer grow: when arguments or another call follow.
	void read_calls(const std::vector<common_chat_tool_call> &calls, bool final)
	{
		common_json deltas = common_json::array();
		for (size_t i = 0; i < calls.size(); i++) {
			const auto &call = calls[i];
			if (call.name.empty())
				continue;
			if (sent_calls.size() <= i)
				sent_calls.resize(i + 1);
			auto &sent = sent_calls[i];
			bool settled = !call.arguments.empty() || i + 1 < calls.size() || final;
			common_json delta = common_json::object();
			common_json function = common_json::object();
			delta["index"] = (int64_t)i;
			if (!sent.named && settled) {
				sent.named = true;
				sent.id = call.id.empty() ? new_id() : call.id;
				delta["id"] = sent.id;
				delta["type"] = "function";
				function["name"] = call.name;
			}
			if (!sent.named)
				continue;
			if (call.arguments.size() > sent.arguments) {
				function["arguments"] = call.arguments.substr(sent.arguments);
				sent.arguments = call.arguments.size();
			} else if (function.contains("name")) {
				function["arguments"] = "";
			}
			if (function.empty())
				continue;
			delta["function"] = function;
			deltas.push_back(delta);
		}
		if (!deltas.empty())
			calls_json = deltas.dump_safe();
	}

	void read(const common_chat_msg &message, bool final)
	{
		if (message.reasoning_content.size() > sent_reasoning) {
			reasoning = message.reasoning_content.substr(sent_reasoning);
			sent_reasoning = message.reasoning_content.size();
		}
		if (message.content.size() > sent_content) {
			content = message.content.substr(sent_content);
			sent_content = message.content.size();
		}
		read_calls(message.tool_calls, final);
	}

	void feed(const char *more, size_t len, bool final)
	{
		text.append(more, len);
		content.clear();
		reasoning.clear();
		calls_json.clear();
		try {
			read(common_chat_parse(text, !final, params), final);
		} catch (const std::bad_alloc &) {
			throw;
		} catch (const std::exception &) {
			if (final)
				give_up();
		}
	}

	// The answer ended in a shape the family's parser does not know.
	void give_up()
	{
		try {
			read(common_chat_parse(text, true, params), true);
		} catch (const std::bad_alloc &) {
			throw;
		} catch (const std::exception &) {
		}
		if (!sent_content && !sent_reasoning && sent_calls.empty())
			content = text;
	}
};

bool chat_reader_feed(struct chat_reader *reader, const char *text, size_t len, bool final, struct chat_reader_delta *delta)
{
	*delta = {};
	try {
		reader->feed(text, len, final);
	} catch (const std::exception &) {
		return false;
	}
	delta->content = reader->content.data();
	delta->content_len = reader->content.size();
	delta->reasoning = reader->reasoning.data();
	delta->reasoning_len = reader->reasoning.size();
	delta->tool_calls = reader->calls_json.data();
	delta->tool_calls_len = reader->calls_json.size();
	return true;
}

bool chat_reader_has_tool_calls(const struct chat_reader *reader)
{
	for (const auto &call : reader->sent_calls)
		if (call.named)
			return true;
	return false;
}

// --- rendering -----------------------------------------------------------------------------------------------------------

struct prompt_parts {
	common_chat_params params;
	std::vector<const char *> stops;
	std::vector<int32_t> visible;
	std::unique_ptr<chat_reader> reader;
	std::unique_ptr<chat_grammar> grammar;
};

// A fault of the request, in words that hold none of its text.
struct client_fault {
	const char *text;
};

static bool present(const char *json)
{
	return json && *json;
}

static void read_messages(const char *json, common_chat_templates_inputs &inputs)
{
	common_json messages = common_json::parse(json);
	if (!messages.is_array() || messages.empty())
		throw client_fault{"messages must be a non-empty array"};
	for (const auto &message : messages) {
		if (!message.is_object() || !message.contains("content") || !message.at("content").is_array())
			continue;
		for (const auto &part : message.at("content"))
			if (!part.is_object() || part.value("type", "") != "text")
				throw client_fault{"this model takes text only: a message has a content part that is not text"};
	}
	for (auto &message : messages) { // OpenAI allows null content, and none at all beside tool calls
		if (message.is_object() && !message.contains("content"))
			message["content"] = "";
		if (message.is_object() && message.contains("tool_calls") && message.at("tool_calls").is_null())
			message.erase("tool_calls");
	}
	try {
		inputs.messages = common_chat_msgs_parse_oaicompat(messages);
	} catch (const std::exception &) {
		throw client_fault{"messages are not in the OpenAI chat format"};
	}
}

static void read_tools(const struct chat_templates *templates, const struct chat_conversation *conversation,
                       common_chat_templates_inputs &inputs)
{
	if (!present(conversation->tools_json))
		return;
	common_json choice;
	if (present(conversation->tool_choice_json))
		choice = common_json::parse(conversation->tool_choice_json);
	if (choice.is_string() && choice.get<std::string>() == "none")
		return;
	auto can = common_chat_templates_get_caps(templates->templates.get());
	if (!can["supports_tools"] && !can["supports_tool_calls"])
		throw client_fault{"this model does not support tools: its chat template has no place for them"};
	try {
		inputs.tools = common_chat_tools_parse_oaicompat(common_json::parse(conversation->tools_json));
	} catch (const std::exception &) {
		throw client_fault{"tools are not in the OpenAI format"};
	}
	inputs.parallel_tool_calls =
	    conversation->parallel_tool_calls < 0 ? can["supports_parallel_tool_calls"] : conversation->parallel_tool_calls != 0;
	if (choice.is_string() && choice.get<std::string>() == "required")
		inputs.tool_choice = COMMON_CHAT_TOOL_CHOICE_REQUIRED;
	if (!choice.is_object())
		return;
	if (!choice.contains("function") || !choice.at("function").is_object())
		throw client_fault{"tool_choice must be none, auto, required or name a function"};
	std::string name = choice.at("function").value("name", "");
	std::vector<common_chat_tool> named;
	for (const auto &tool : inputs.tools)
		if (tool.name == name)
			named.push_back(tool);
	if (named.empty())
		throw client_fault{"tool_choice names a function that is not in tools"};
	inputs.tools = named;
	inputs.tool_choice = COMMON_CHAT_TOOL_CHOICE_REQUIRED;
}

static void read_schema(const char *json, common_chat_templates_inputs &inputs)
{
	if (!present(json))
		return;
	common_json schema = common_json::parse(json);
	if (schema.is_object() && schema.empty())
		schema["type"] = "object";
	inputs.json_schema = schema.dump();
	try {
		json_schema_to_grammar(schema);
	} catch (const std::exception &) {
		throw client_fault{"response_format: this JSON schema cannot be expressed as a grammar"};
	}
}

static void read_arguments(const struct chat_conversation *conversation, common_chat_templates_inputs &inputs)
{
	if (present(conversation->template_args_json)) {
		common_json arguments = common_json::parse(conversation->template_args_json);
		if (!arguments.is_object())
			throw client_fault{"chat_template_kwargs must be an object"};
		for (const auto &item : arguments.items())
			inputs.chat_template_kwargs[item.key()] = item.value().dump();
		if (arguments.contains("enable_thinking")) {
			if (!arguments.at("enable_thinking").is_boolean())
				throw client_fault{"chat_template_kwargs.enable_thinking must be a boolean"};
			inputs.enable_thinking = arguments.at("enable_thinking").get<bool>();
		}
	}
	if (!present(conversation->reasoning_effort))
		return;
	if (!std::strcmp(conversation->reasoning_effort, "none"))
		inputs.enable_thinking = false;
	else
		inputs.chat_template_kwargs["reasoning_effort"] = common_json(conversation->reasoning_effort).dump();
}

// Answers of such a template are plain text: nothing to take apart.
static bool reads_as_it_stands(const common_chat_params &params, const common_chat_parser_params &parser, bool tools)
{
	if (tools || params.supports_thinking)
		return false;
	static const std::string probe = "A [probe] {\"of\": 1} <plain> text.";
	try {
		common_chat_msg message = common_chat_parse(probe, false, parser);
		return message.content == probe && message.reasoning_content.empty() && message.tool_calls.empty();
	} catch (const std::exception &) {
		return false;
	}
}

// A required call: the library's own grammar lets the model write any text before it. Where a call can be the whole answer, the
// answer must begin with it. Returns whether it must.
static bool apply_templates(const struct chat_templates *templates, const common_chat_templates_inputs &inputs,
                            common_chat_params &out)
{
	if (inputs.tool_choice == COMMON_CHAT_TOOL_CHOICE_REQUIRED) {
		common_chat_templates_inputs automatic = inputs;
		automatic.tool_choice = COMMON_CHAT_TOOL_CHOICE_AUTO;
		out = common_chat_templates_apply(templates->templates.get(), automatic);
		if (out.grammar_lazy && !out.grammar.empty() && !out.supports_thinking)
			return true;
	}
	out = common_chat_templates_apply(templates->templates.get(), inputs);
	return false;
}

static std::unique_ptr<prompt_parts> render(const struct chat_templates *templates,
                                            const struct chat_conversation *conversation)
{
	common_chat_templates_inputs inputs;
	inputs.reasoning_format = COMMON_REASONING_FORMAT_AUTO;
	read_messages(conversation->messages_json, inputs);
	read_tools(templates, conversation, inputs);
	read_schema(conversation->schema_json, inputs);
	read_arguments(conversation, inputs);

	const llama_vocab *vocab = llama_model_get_vocab(templates->model);
	auto parts = std::make_unique<prompt_parts>();
	bool at_once = apply_templates(templates, inputs, parts->params);
	const common_chat_params &params = parts->params;

	common_chat_parser_params parser(params);
	parser.reasoning_format = inputs.reasoning_format;
	parser.parse_tool_calls = !inputs.tools.empty();
	if (!params.parser.empty())
		parser.parser.load(params.parser);
	if (!reads_as_it_stands(params, parser, !inputs.tools.empty())) {
		parts->reader = std::make_unique<chat_reader>();
		parts->reader->params = parser;
	}
	if (!params.grammar.empty())
		parts->grammar = make_grammar(vocab, params, at_once);
	else if (!inputs.json_schema.empty())
		throw client_fault{"response_format: this model's template does not allow constrained output"};
	for (const auto &stop : params.additional_stops)
		parts->stops.push_back(stop.c_str());
	for (const auto &text : params.preserved_tokens) {
		auto ids = common_tokenize(vocab, text, false, true);
		if (ids.size() == 1)
			parts->visible.push_back(ids[0]);
	}
	return parts;
}

int chat_prompt_render(const struct chat_templates *templates, const struct chat_conversation *conversation,
                       struct chat_prompt *out, char *error, size_t error_size)
{
	*out = {};
	try {
		auto parts = render(templates, conversation);
		out->text = parts->params.prompt.data();
		out->text_len = parts->params.prompt.size();
		out->stops = parts->stops.data();
		out->stop_count = parts->stops.size();
		out->visible_tokens = parts->visible.data();
		out->visible_token_count = parts->visible.size();
		out->reader = parts->reader.get();
		out->grammar = parts->grammar.get();
		out->owned = parts.release();
		return 0;
	} catch (const client_fault &fault) {
		say(error, error_size, "%s", fault.text);
		return 400;
	} catch (const std::bad_alloc &) {
		say(error, error_size, "out of memory");
		return 503;
	} catch (const std::exception &e) {
		std::string words = refusal(templates->source, e.what());
		if (words.empty())
			say(error, error_size, "the model's chat template cannot render this conversation");
		else
			say(error, error_size, "the model's chat template refuses this conversation: %s", words.c_str());
		return 400;
	}
}

void chat_prompt_free(struct chat_prompt *prompt)
{
	delete static_cast<prompt_parts *>(prompt->owned);
	*prompt = {};
}

// --- exceptions of llama.cpp ---------------------------------------------------------------------------------------------

int32_t chat_shim_tokenize(const struct llama_vocab *vocab, const char *text, size_t len, int32_t *tokens, int32_t max,
                           bool add_special, bool parse_special)
{
	if (len > INT32_MAX)
		return INT32_MIN;
	try {
		return llama_tokenize(vocab, text, (int32_t)len, tokens, max, add_special, parse_special);
	} catch (const std::exception &) {
		return INT32_MIN;
	}
}

int32_t chat_shim_decode(struct llama_context *context, const struct llama_batch *batch)
{
	try {
		return llama_decode(context, *batch);
	} catch (const std::exception &) {
		return -100;
	}
}
