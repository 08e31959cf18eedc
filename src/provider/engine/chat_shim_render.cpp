// A conversation becomes a prompt: what the template makes of it, its tokens, and how the answer is to be held and read.
#include "provider/engine/chat_shim.hpp"

#include "chat-auto-parser.h"
#include "chat-peg-parser.h"
#include "json-schema-to-grammar.h"
#include "provider/engine/chat_plain_tools.h"

#include <algorithm>
#include <climits>
#include <cstring>

// --- words of people that look like control tokens -----------------------------------------------------------------------

control_words::control_words(const llama_vocab *vocab)
{
	std::unordered_set<size_t> seen;
	for (llama_token id = 0; id < llama_vocab_n_tokens(vocab); id++) {
		if (!(llama_vocab_get_attr(vocab, id) & (LLAMA_TOKEN_ATTR_CONTROL | LLAMA_TOKEN_ATTR_UNKNOWN)))
			continue;
		std::string word = common_token_to_piece(vocab, id, true);
		if (word.size() < 2)
			continue;
		begins[(unsigned char)word[0]] = true;
		seen.insert(word.size());
		words.insert(word);
	}
	lengths.assign(seen.begin(), seen.end());
	std::sort(lengths.rbegin(), lengths.rend());
}

size_t control_words::at(const std::string &text, size_t pos) const
{
	if (!begins[(unsigned char)text[pos]])
		return 0;
	for (size_t len : lengths)
		if (len <= text.size() - pos && words.count(text.substr(pos, len)))
			return len;
	return 0;
}

// Puts a seam into every control word of a person's text: a character that stands nowhere else. The template carries it along,
// and in the rendered prompt it shows which control words are not the template's own.
class seams
{
  public:
	seams(const control_words &controls, const std::string &everything) : controls(controls)
	{
		for (int last = 0x90; last <= 0xaf; last++) { // U+FDD0 to U+FDEF are no characters: nobody needs them
			seam = std::string("\xef\xb7") + (char)last;
			if (everything.find(seam) == std::string::npos)
				return;
		}
		throw client_fault{"the conversation holds every code point that is not a character"};
	}

	void sew(std::string &text) const
	{
		sew(text, false);
	}

	// Templates look for the marks of reasoning in what a model said.
	void sew_said(std::string &text) const
	{
		sew(text, true);
	}

	// Takes the seams out; where they were comes to `at`.
	void unpick(std::string &text, std::vector<size_t> &at) const
	{
		size_t from = 0, kept = 0, found;
		if (text.find(seam) == std::string::npos)
			return;
		std::string clean;
		clean.reserve(text.size());
		while ((found = text.find(seam, from)) != std::string::npos) {
			clean.append(text, from, found - from);
			kept = clean.size();
			at.push_back(kept);
			from = found + seam.size();
		}
		clean.append(text, from, std::string::npos);
		text = clean;
	}

  private:
	static bool is_thinking_mark(const std::string &word)
	{
		static const char *const marks[] = {"<think>", "</think>", "[THINK]", "[/THINK]"};
		return std::any_of(std::begin(marks), std::end(marks), [&](const char *mark) { return word == mark; });
	}

	static size_t first_character(const std::string &text, size_t pos)
	{
		size_t len = 1;
		while (pos + len < text.size() && ((unsigned char)text[pos + len] & 0xc0) == 0x80)
			len++;
		return len;
	}

	void sew(std::string &text, bool said) const
	{
		std::string sewn;
		size_t copied = 0;
		for (size_t pos = 0; pos < text.size(); pos++) {
			size_t len = controls.at(text, pos);
			if (!len || (said && is_thinking_mark(text.substr(pos, len))))
				continue;
			size_t cut = pos + first_character(text, pos);
			sewn.append(text, copied, cut - copied);
			sewn += seam;
			copied = cut;
		}
		if (!copied)
			return;
		sewn.append(text, copied, std::string::npos);
		text = sewn;
	}

	const control_words &controls;
	std::string seam;
};

static void sew_descriptions(const seams &seams, common_json &schema)
{
	if (schema.is_array()) {
		for (auto &member : schema)
			sew_descriptions(seams, member);
		return;
	}
	if (!schema.is_object())
		return;
	for (const auto &item : schema.items()) {
		common_json &value = item.value();
		std::string key = item.key();
		if (value.is_string() && (key == "description" || key == "title" || key == "$comment")) {
			std::string text = value.get<std::string>();
			seams.sew(text);
			value = text;
		} else {
			sew_descriptions(seams, value);
		}
	}
}

static void sew_all(const seams &seams, common_chat_templates_inputs &inputs)
{
	for (auto &message : inputs.messages) {
		bool said = message.role == "assistant";
		auto sew = [&](std::string &text) { said ? seams.sew_said(text) : seams.sew(text); };
		sew(message.content);
		for (auto &part : message.content_parts)
			sew(part.text);
		sew(message.reasoning_content);
		for (std::string *text : {&message.tool_name, &message.tool_call_id})
			seams.sew(*text);
		for (auto &call : message.tool_calls)
			for (std::string *text : {&call.name, &call.arguments, &call.id})
				seams.sew(*text);
	}
	for (auto &tool : inputs.tools) {
		seams.sew(tool.description);
		common_json parameters = common_json::parse(tool.parameters);
		sew_descriptions(seams, parameters);
		tool.parameters = parameters.dump();
	}
	for (auto &argument : inputs.chat_template_kwargs)
		seams.sew(argument.second);
}

// --- reading the request -------------------------------------------------------------------------------------------------

struct prompt_parts {
	common_chat_params params;
	const chat_templates *templates = nullptr;
	std::vector<size_t> seams; // offsets in the prompt that lie inside of a control word that is only text
	std::vector<const char *> stops;
	std::vector<int32_t> visible;
	std::shared_ptr<chat_reader> reader;
	std::unique_ptr<chat_grammar> grammar;
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

// The library moves thoughts into the content for some families; a template that knows of none would lose the answer beside
// them.
static void drop_unwanted_thoughts(const struct chat_templates *templates, common_chat_templates_inputs &inputs)
{
	static const char *const names[] = {"reasoning_content", ".reasoning", "'reasoning'", "\"reasoning\"", "thinking'",
	                                    "thinking\"",        ".thinking",  "<think",      "[THINK]"};
	const std::string &source = templates->source;
	if (std::any_of(std::begin(names), std::end(names),
	                [&](const char *name) { return source.find(name) != std::string::npos; }))
		return;
	for (auto &message : inputs.messages)
		message.reasoning_content.clear();
}

static void name_tool(const common_json &choice, common_chat_templates_inputs &inputs)
{
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
	try {
		inputs.tools = common_chat_tools_parse_oaicompat(common_json::parse(conversation->tools_json));
	} catch (const std::exception &) {
		throw client_fault{"tools are not in the OpenAI format"};
	}
	bool by_itself = !conversation->plain_tools && can["supports_parallel_tool_calls"];
	inputs.parallel_tool_calls = conversation->parallel_tool_calls < 0 ? by_itself : conversation->parallel_tool_calls != 0;
	if (choice.is_string() && choice.get<std::string>() == "required")
		inputs.tool_choice = COMMON_CHAT_TOOL_CHOICE_REQUIRED;
	else if (choice.is_object())
		name_tool(choice, inputs);
}

static std::string read_schema(const char *json)
{
	if (!present(json))
		return "";
	common_json schema = common_json::parse(json);
	if (schema.is_object() && schema.empty())
		schema["type"] = "object";
	return schema.dump();
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

// --- how the answer is held and read -------------------------------------------------------------------------------------

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

static std::string trimmed(const std::string &text)
{
	size_t from = text.find_first_not_of(" \t\r\n"), to = text.find_last_not_of(" \t\r\n");
	return from == std::string::npos ? "" : text.substr(from, to - from + 1);
}

// Calls written as chat_plain_tools.h has told the model to.
static void read_plain_calls(const common_chat_templates_inputs &asked, common_chat_params &params)
{
	common_json tools = common_chat_tools_to_json_oaicompat(asked.tools);
	bool required = asked.tool_choice == COMMON_CHAT_TOOL_CHOICE_REQUIRED;
	std::string thinks = trimmed(params.thinking_start_tag);
	auto parser = build_chat_peg_parser([&](common_chat_peg_builder &p) {
		auto reasoning = p.eps();
		if (params.supports_thinking && !params.thinking_end_tags.empty() && !thinks.empty()) {
			const std::string &ends = params.thinking_end_tags.front();
			reasoning = p.optional(p.optspace(thinks) + p.reasoning(p.until(ends)) + p.optspace(ends)) + p.space();
		}
		auto one = p.standard_json_tools(CHAT_PLAIN_TOOLS_OPEN, CHAT_PLAIN_TOOLS_CLOSE, tools, false, true);
		auto calls = p.trigger_rule("tool-calls", asked.parallel_tool_calls ? one + p.zero_or_more(p.space() + one) : one);
		auto content = p.content(p.until(CHAT_PLAIN_TOOLS_OPEN));
		return p.prefix(params.generation_prompt, thinks) + reasoning + content + (required ? calls : p.optional(calls)) +
		       p.space() + p.end();
	});
	params.format = COMMON_CHAT_FORMAT_PEG_NATIVE;
	params.parser = parser.save();
	params.grammar_lazy = true;
	params.grammar = build_grammar([&](const common_grammar_builder &builder) { parser.build_grammar(builder, true); });
	params.grammar_triggers = {{COMMON_GRAMMAR_TRIGGER_TYPE_WORD, CHAT_PLAIN_TOOLS_OPEN}};
}

static bool wakes_by_word(const common_chat_params &params)
{
	return params.grammar_lazy && !params.grammar.empty() &&
	       std::all_of(params.grammar_triggers.begin(), params.grammar_triggers.end(),
	                   [](const common_grammar_trigger &trigger) { return trigger.type == COMMON_GRAMMAR_TRIGGER_TYPE_WORD; });
}

// A required call: the library's own grammar lets the model write any text before it. Where a call can be the whole answer, the
// answer must begin with it, behind the model's reasoning. Returns whether it must.
static bool apply_templates(const struct chat_templates *templates, const common_chat_templates_inputs &inputs,
                            common_chat_params &out)
{
	if (inputs.tool_choice == COMMON_CHAT_TOOL_CHOICE_REQUIRED) {
		common_chat_templates_inputs automatic = inputs;
		automatic.tool_choice = COMMON_CHAT_TOOL_CHOICE_AUTO;
		out = common_chat_templates_apply(templates->templates.get(), automatic);
		if (wakes_by_word(out))
			return true;
	}
	out = common_chat_templates_apply(templates->templates.get(), inputs);
	if (inputs.tool_choice != COMMON_CHAT_TOOL_CHOICE_REQUIRED || !out.grammar.empty())
		return false;
	read_plain_calls(inputs, out); // the library knows no calls of this family, which reads its tools nevertheless
	return true;
}

// Applies the template with the tools told in its own way, or as plain text where it has none.
static bool apply(const struct chat_templates *templates, const struct chat_conversation *conversation,
                  const common_chat_templates_inputs &inputs, common_chat_params &out)
{
	if (!conversation->plain_tools || inputs.tools.empty())
		return apply_templates(templates, inputs, out);
	common_chat_templates_inputs bare = inputs;
	bare.tools.clear();
	bare.tool_choice = COMMON_CHAT_TOOL_CHOICE_AUTO;
	out = common_chat_templates_apply(templates->templates.get(), bare);
	read_plain_calls(inputs, out);
	return inputs.tool_choice == COMMON_CHAT_TOOL_CHOICE_REQUIRED;
}

static int64_t thinking_budget(const struct chat_templates *templates, const struct chat_conversation *conversation)
{
	if (conversation->reasoning_budget >= 0)
		return conversation->reasoning_budget;
	bool told = templates->source.find("reasoning_effort") != std::string::npos; // such a model holds to it by itself
	return conversation->effort_budget == 0 || !told ? conversation->effort_budget : -1;
}

static common_chat_parser_params parser_of(const common_chat_params &params, bool tools)
{
	common_chat_parser_params parser(params);
	parser.reasoning_format = COMMON_REASONING_FORMAT_AUTO;
	parser.parse_tool_calls = tools;
	if (!params.parser.empty())
		parser.parser.load(params.parser);
	return parser;
}

// The grammar of the answer's JSON schema. Plain templates get one of our own that starts with the answer; where the family
// wraps its answers, or thinks, the library knows how.
static llama_sampler *schema_grammar(const struct chat_templates *templates, const std::string &schema,
                                     common_chat_templates_inputs &inputs, bounded_numbers &numbers)
{
	llama_sampler *compiled = templates->grammars.of_schema(templates->vocab(), schema); // says what cannot be expressed
	common_chat_params plain = common_chat_templates_apply(templates->templates.get(), inputs);
	if (inputs.tools.empty() && reads_as_it_stands(plain, parser_of(plain, false), false))
		return compiled;
	llama_sampler_free(compiled);
	inputs.json_schema = numbers.take(schema).dump();
	return nullptr;
}

// The marks of calls in another family's form (chat_foreign_calls.h), where they are tokens of this vocabulary.
static void show_foreign_marks(prompt_parts &parts)
{
	static const char *const marks[] = {
	    "<tool_call>",         "</tool_call>", "<|python_tag|>",           "<start_function_call>",
	    "<end_function_call>", "<escape>",     "<start_function_response>"};
	for (const char *mark : marks) {
		auto ids = common_tokenize(parts.templates->vocab(), mark, false, true);
		if (ids.size() == 1)
			parts.visible.push_back(ids[0]);
	}
	if (parts.templates->source.find("<start_function_response>") != std::string::npos)
		parts.stops.push_back("<start_function_response>"); // the model waits for the results there
}

static void finish(prompt_parts &parts, const common_chat_templates_inputs &inputs, bool one_call)
{
	const common_chat_params &params = parts.params;
	bool tools = !inputs.tools.empty();
	common_chat_parser_params parser = parser_of(params, tools);
	if (!reads_as_it_stands(params, parser, tools))
		parts.reader = make_reader(parser, params, !inputs.json_schema.empty(),
		                           tools ? common_chat_tools_to_json_oaicompat(inputs.tools).dump() : "", one_call);
	if (params.grammar.empty() && !inputs.json_schema.empty())
		throw client_fault{"response_format: this model's template does not allow constrained output"};
	for (const auto &stop : params.additional_stops)
		parts.stops.push_back(stop.c_str());
	for (const auto &text : params.preserved_tokens) {
		auto ids = common_tokenize(parts.templates->vocab(), text, false, true);
		if (ids.size() == 1)
			parts.visible.push_back(ids[0]);
	}
	if (tools)
		show_foreign_marks(parts);
}

static std::unique_ptr<prompt_parts> render(const struct chat_templates *templates,
                                            const struct chat_conversation *conversation)
{
	common_chat_templates_inputs inputs;
	inputs.reasoning_format = COMMON_REASONING_FORMAT_AUTO;
	read_messages(conversation->messages_json, inputs);
	drop_unwanted_thoughts(templates, inputs);
	read_tools(templates, conversation, inputs);
	read_arguments(conversation, inputs);
	std::string schema = read_schema(conversation->schema_json), everything = conversation->messages_json;
	if (present(conversation->tools_json))
		everything += conversation->tools_json;
	seams seams(*templates->controls, everything);
	sew_all(seams, inputs);

	auto parts = std::make_unique<prompt_parts>();
	parts->templates = templates;
	bounded_numbers numbers;
	llama_sampler *held = schema.empty() ? nullptr : schema_grammar(templates, schema, inputs, numbers);
	std::unique_ptr<llama_sampler, decltype(&llama_sampler_free)> owned(held, llama_sampler_free);
	bool at_once = apply(templates, conversation, inputs, parts->params);
	numbers.put(parts->params.grammar);
	seams.unpick(parts->params.prompt, parts->seams);
	finish(*parts, inputs, conversation->parallel_tool_calls == 0);
	parts->grammar =
	    make_grammar(*templates, parts->params, owned.release(), at_once, thinking_budget(templates, conversation));
	return parts;
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
		chat_say(error, error_size, "%s", fault.text.c_str());
		return 400;
	} catch (const std::bad_alloc &) {
		chat_say(error, error_size, "out of memory");
		return 503;
	} catch (const std::exception &e) {
		std::string words = refusal(templates->source, e.what());
		if (words.empty())
			chat_say(error, error_size, "the model's chat template cannot render this conversation");
		else
			chat_say(error, error_size, "the model's chat template refuses this conversation: %s", words.c_str());
		return 400;
	}
}

void chat_prompt_free(struct chat_prompt *prompt)
{
	delete static_cast<prompt_parts *>(prompt->owned);
	*prompt = {};
}

// --- tokens --------------------------------------------------------------------------------------------------------------

// Appends the tokens of a part of the prompt. False when there is no room.
struct token_sink {
	const llama_vocab *vocab;
	int32_t *tokens;
	int32_t max, count = 0;

	bool take(const std::string &text, size_t from, size_t to, bool parse_special)
	{
		if (from >= to)
			return true;
		int32_t got =
		    llama_tokenize(vocab, text.data() + from, (int32_t)(to - from), tokens + count, max - count, false, parse_special);
		if (got < 0)
			return false;
		count += got;
		return true;
	}

	bool take(llama_token token)
	{
		if (count == max)
			return false;
		tokens[count++] = token;
		return true;
	}
};

// Is there a control word at `pos` that is the template's own? Its length, 0 = no.
static size_t own_control_word(const prompt_parts &parts, size_t pos)
{
	size_t len = parts.templates->controls->at(parts.params.prompt, pos);
	if (!len)
		return 0;
	auto seam = std::upper_bound(parts.seams.begin(), parts.seams.end(), pos);
	return seam == parts.seams.end() || *seam >= pos + len ? len : 0;
}

// The prompt is cut at the template's own control words into pieces. A piece with a seam is tokenised as plain text; everything
// else goes through the tokeniser as it is.
static bool tokenize_pieces(const prompt_parts &parts, token_sink &sink)
{
	const std::string &text = parts.params.prompt;
	size_t done = 0, piece = 0; // tokenised so far; where the piece begins that the position is in
	size_t seam = 0;
	if (llama_vocab_get_add_bos(sink.vocab) && !sink.take(llama_vocab_bos(sink.vocab)))
		return false;
	for (size_t pos = 0; pos <= text.size();) {
		size_t next_seam = seam < parts.seams.size() ? parts.seams[seam] : SIZE_MAX;
		size_t word = pos < text.size() ? own_control_word(parts, pos) : 0;
		bool border = word || pos == text.size();
		if (border && next_seam <= pos) { // the piece holds seams
			if (!sink.take(text, done, piece, true) || !sink.take(text, piece, pos, false))
				return false;
			done = pos;
			while (seam < parts.seams.size() && parts.seams[seam] <= pos)
				seam++;
		}
		pos += word ? word : 1;
		if (word)
			piece = pos;
	}
	return sink.take(text, done, text.size(), true) &&
	       (!llama_vocab_get_add_eos(sink.vocab) || sink.take(llama_vocab_eos(sink.vocab)));
}

int32_t chat_prompt_tokenize(const struct chat_prompt *prompt, int32_t *tokens, int32_t max)
{
	const auto &parts = *static_cast<const prompt_parts *>(prompt->owned);
	if (prompt->text_len > INT32_MAX)
		return INT32_MIN;
	try {
		const llama_vocab *vocab = parts.templates->vocab();
		if (parts.seams.empty())
			return llama_tokenize(vocab, prompt->text, (int32_t)prompt->text_len, tokens, max, true, true);
		token_sink sink{vocab, tokens, max};
		return tokenize_pieces(parts, sink) ? sink.count : INT32_MIN;
	} catch (const std::exception &) {
		return INT32_MIN;
	}
}
