// Grammars: compiled, cached, asleep while the model thinks; and the budget of its thinking.
#include "provider/engine/chat_shim.hpp"

#include "json-schema-to-grammar.h"

#include <climits>
#include <cmath>

// --- compiled schemas ----------------------------------------------------------------------------------------------------

grammar_cache::~grammar_cache()
{
	for (auto &entry : entries)
		llama_sampler_free(entry.compiled);
}

// The library explains in its own words, and those quote the schema. Only the kind of the fault is told.
static std::string refusal_of(const std::string &what)
{
	static const struct {
		const char *sign, *words;
	} known[] = {
	    {"$ref", "it has a $ref that leads nowhere or out of the schema"},
	    {"pattern", "it has a pattern that is not a regular expression"},
	    {"min_value", "it has bounds that no number fits"},
	};
	for (const auto &fault : known)
		if (what.find(fault.sign) != std::string::npos)
			return fault.words;
	return "it is not a valid JSON schema";
}

grammar_cache::entry grammar_cache::compile(const llama_vocab *vocab, const std::string &schema)
{
	entry made;
	made.schema = schema;
	try {
		bounded_numbers numbers;
		std::string text = json_schema_to_grammar(numbers.take(schema));
		numbers.put(text);
		made.compiled = llama_sampler_init_grammar(vocab, text.c_str(), "root");
		if (!made.compiled)
			made.refusal = "it is too large or too deep";
	} catch (const std::bad_alloc &) {
		throw;
	} catch (const std::exception &e) {
		made.refusal = refusal_of(e.what());
	}
	return made;
}

void grammar_cache::make_room(size_t more)
{
	while (!entries.empty() && (entries.size() >= most_entries || bytes + more > most_bytes)) {
		auto &oldest = entries.back();
		bytes -= oldest.schema.size();
		by_schema.erase(oldest.schema);
		llama_sampler_free(oldest.compiled);
		entries.pop_back();
	}
}

llama_sampler *grammar_cache::of_schema(const llama_vocab *vocab, const std::string &schema)
{
	std::lock_guard<std::mutex> guard(lock);
	auto found = by_schema.find(schema);
	if (found != by_schema.end()) {
		hits++;
		entries.splice(entries.begin(), entries, found->second);
	} else {
		misses++;
		entry made = compile(vocab, schema);
		make_room(schema.size());
		entries.push_front(made);
		by_schema[schema] = entries.begin();
		bytes += schema.size();
	}
	const entry &used = entries.front();
	if (!used.compiled)
		throw client_fault{"response_format: this JSON schema cannot be expressed: " + used.refusal};
	return llama_sampler_clone(used.compiled);
}

// --- one answer's grammar ------------------------------------------------------------------------------------------------

chat_grammar::~chat_grammar()
{
	llama_sampler_free(grammar);
	llama_sampler_free(thinking);
}

bool chat_grammar::thinks() const
{
	if (!thinking)
		return false;
	auto state = common_reasoning_budget_get_state(thinking);
	return state != REASONING_BUDGET_IDLE && state != REASONING_BUDGET_DONE;
}

bool chat_grammar::asleep() const
{
	return (lazy || after_thinking) && thinks();
}

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

static llama_sampler *lazy_grammar(const llama_vocab *vocab, const common_chat_params &params)
{
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
	std::vector<const char *> texts;
	for (const auto &pattern : patterns)
		texts.push_back(pattern.c_str());
	return llama_sampler_init_grammar_lazy_patterns(vocab, params.grammar.c_str(), "root", texts.data(), texts.size(),
	                                                tokens.data(), tokens.size());
}

// Models put line breaks between their reasoning and the rest: the grammar allows some before its own beginning.
static std::string with_leading_space(const std::string &grammar)
{
	static const std::string root = "root ::=";
	size_t at = grammar.rfind(root, 0) == 0 ? 0 : grammar.find("\n" + root);
	if (at == std::string::npos)
		return grammar;
	std::string result = grammar;
	result.replace(at ? at + 1 : 0, root.size(), "after-space ::=");
	return result + "\nroot ::= [ \\n]? [ \\n]? after-space\n";
}

static void watch_thinking(chat_grammar &made, const llama_vocab *vocab, const common_chat_params &params, int64_t budget)
{
	if (params.thinking_start_tag.empty() || params.thinking_end_tags.empty())
		return;
	std::vector<llama_tokens> ends;
	for (const auto &tag : params.thinking_end_tags)
		ends.push_back(common_tokenize(vocab, tag, false, true));
	llama_tokens opening = common_tokenize(vocab, params.thinking_start_tag, false, true);
	if (opening.size() == 1)
		made.opening = opening[0];
	int32_t most = budget < 0 || budget > INT_MAX ? INT_MAX : (int32_t)budget;
	made.thinking = common_reasoning_budget_init(vocab, {opening}, ends, ends.front(), most);
}

std::unique_ptr<chat_grammar> make_grammar(const chat_templates &templates, const common_chat_params &params,
                                           llama_sampler *schema, bool at_once, int64_t reasoning_budget)
{
	const llama_vocab *vocab = templates.vocab();
	auto made = std::make_unique<chat_grammar>();
	made->vocab = vocab;
	made->grammar = schema; // owned from here on
	made->after_thinking = schema || at_once;
	made->lazy = !schema && params.grammar_lazy && !at_once;
	if (params.supports_thinking)
		watch_thinking(*made, vocab, params, reasoning_budget);
	if (!schema && !params.grammar.empty()) {
		if (made->lazy)
			made->grammar = lazy_grammar(vocab, params);
		else
			made->grammar = llama_sampler_init_grammar(
			    vocab, (at_once ? with_leading_space(params.grammar) : params.grammar).c_str(), "root");
		if (!made->grammar)
			throw std::invalid_argument("grammar");
	}
	auto prefill = generation_tokens(vocab, params.generation_prompt);
	if (made->grammar && !schema && !params.grammar_lazy) // such a grammar begins with the generation prompt
		for (llama_token token : prefill)
			llama_sampler_accept(made->grammar, token);
	if (made->thinking)
		for (llama_token token : prefill)
			llama_sampler_accept(made->thinking, token);
	made->begun = made->thinking && common_reasoning_budget_get_state(made->thinking) == REASONING_BUDGET_DONE;
	if (!made->grammar && !made->thinking)
		return nullptr;
	return made;
}

// --- at each token -------------------------------------------------------------------------------------------------------

// The grammar's word on the candidates; a token that begins the reasoning block stays possible where a block may begin.
static void apply_grammar(chat_grammar *grammar, llama_token_data_array *candidates)
{
	bool may_open = grammar->after_thinking && grammar->thinking && !grammar->begun && grammar->opening != LLAMA_TOKEN_NULL;
	float logit = -INFINITY;
	if (may_open)
		for (size_t i = 0; i < candidates->size; i++)
			if (candidates->data[i].id == grammar->opening)
				logit = candidates->data[i].logit;
	llama_sampler_apply(grammar->grammar, candidates);
	if (may_open)
		for (size_t i = 0; i < candidates->size; i++)
			if (candidates->data[i].id == grammar->opening && logit > candidates->data[i].logit)
				candidates->data[i].logit = logit;
}

// What must come has not begun: neither a thought nor blanks may be the whole answer. The library's grammars of calls allow
// that.
static void forbid_the_end(const chat_grammar *grammar, llama_token_data_array *candidates)
{
	for (size_t i = 0; i < candidates->size; i++)
		if (llama_vocab_is_eog(grammar->vocab, candidates->data[i].id))
			candidates->data[i].logit = -INFINITY;
}

void chat_grammar_apply(struct chat_grammar *grammar, struct llama_token_data_array *candidates)
{
	try {
		if (grammar->thinking)
			llama_sampler_apply(grammar->thinking, candidates); // closes the block when its budget is used
		if (grammar->grammar && !grammar->asleep())
			apply_grammar(grammar, candidates);
		if (grammar->after_thinking && !grammar->spoken)
			forbid_the_end(grammar, candidates);
	} catch (const std::exception &) {
		// an unusable grammar allows nothing; the caller sees that every candidate is gone
		for (size_t i = 0; i < candidates->size; i++)
			candidates->data[i].logit = -INFINITY;
	}
}

static bool opens(const chat_grammar *grammar, int32_t token)
{
	return grammar->after_thinking && grammar->thinking && !grammar->begun && !grammar->thinks() && token == grammar->opening;
}

static bool is_blank(const llama_vocab *vocab, int32_t token)
{
	return common_token_to_piece(vocab, token, true).find_first_not_of(" \t\r\n") == std::string::npos;
}

static void take(chat_grammar *grammar, int32_t token)
{
	bool opening = opens(grammar, token), asleep = grammar->asleep(), thought = grammar->thinks();
	if (grammar->thinking) {
		llama_sampler_accept(grammar->thinking, token);
		bool thinks = grammar->thinks();
		grammar->reasoning_tokens += thought && thinks;
		if (thought && !thinks) { // the block has ended
			grammar->begun = true;
			const llama_tokens *end = common_reasoning_budget_get_end_match(grammar->thinking);
			uint64_t counted = end && !end->empty() ? end->size() - 1 : 0; // of the tag that ended it
			grammar->reasoning_tokens -= counted < grammar->reasoning_tokens ? counted : grammar->reasoning_tokens;
			if (grammar->lazy && grammar->grammar && end) // its end may be what triggers the grammar
				for (llama_token id : *end)
					llama_sampler_accept(grammar->grammar, id);
		}
	}
	if (!grammar->grammar || asleep || opening)
		return;
	grammar->begun = true;
	grammar->spoken = grammar->spoken || !is_blank(grammar->vocab, token);
	llama_sampler_accept(grammar->grammar, token);
}

bool chat_grammar_accept(struct chat_grammar *grammar, int32_t token)
{
	try {
		take(grammar, token);
		return true;
	} catch (const std::exception &) {
		return false;
	}
}

uint64_t chat_grammar_reasoning_tokens(const struct chat_grammar *grammar)
{
	return grammar ? grammar->reasoning_tokens : 0;
}

bool chat_grammar_thinks(const struct chat_grammar *grammar)
{
	return grammar && grammar->thinks();
}
