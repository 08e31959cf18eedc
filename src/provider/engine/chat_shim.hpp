// Inside of the shim: what its C++ files share. Nobody else includes it.
#ifndef PROVIDER_CHAT_SHIM_HPP
#define PROVIDER_CHAT_SHIM_HPP

#include "provider/engine/chat_shim.h"

#include "chat.h"
#include "common.h"
#include "llama.h"
#include "reasoning-budget.h"

#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

// A fault of the request, in words that hold none of its text.
struct client_fault {
	std::string text;
};

void chat_say(char *error, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));

// The words of the vocabulary's control tokens. In what a person wrote they are text, not tokens.
class control_words
{
  public:
	explicit control_words(const llama_vocab *vocab);
	// Length of the longest control word that begins there, 0 = none.
	size_t at(const std::string &text, size_t pos) const;

  private:
	std::unordered_set<std::string> words;
	std::vector<size_t> lengths; // longest first
	bool begins[256] = {};
};

// Numbers between bounds, which the library's grammars know only in part (chat_shim_numbers.cpp).
class bounded_numbers
{
  public:
	// The schema with a constant in the place of each. Throws client_fault when their bounds cannot be expressed.
	common_json take(const std::string &schema);
	// Puts the numbers into the grammar that the library made of what take gave.
	void put(std::string &grammar) const;

  private:
	void walk(common_json &schema);
	void part_types(common_json &schema);
	std::string mark_of(size_t number) const;
	std::string mark;
	std::vector<std::string> pieces; // of grammar
};

// Compiled grammars of JSON schemas, the most recently used ones. Any thread.
class grammar_cache
{
  public:
	~grammar_cache();
	// A sampler of the caller's own. Throws client_fault when the schema cannot be expressed.
	llama_sampler *of_schema(const llama_vocab *vocab, const std::string &schema);
	size_t hits = 0, misses = 0; // for tests

  private:
	struct entry {
		std::string schema;
		std::string refusal; // or
		llama_sampler *compiled = nullptr;
	};
	static constexpr size_t most_entries = 64;
	static constexpr size_t most_bytes = size_t(1) << 20; // of schema texts
	entry compile(const llama_vocab *vocab, const std::string &schema);
	void make_room(size_t bytes);

	std::mutex lock;
	std::list<entry> entries; // most recently used first
	std::unordered_map<std::string, std::list<entry>::iterator> by_schema;
	size_t bytes = 0;
};

struct chat_templates {
	common_chat_templates_ptr templates;
	const llama_model *model = nullptr;
	std::string source;
	std::unique_ptr<control_words> controls;
	mutable grammar_cache grammars;

	const llama_vocab *vocab() const
	{
		return llama_model_get_vocab(model);
	}
};

// What holds the answer to its form: a grammar, and the watch over the reasoning block.
struct chat_grammar {
	llama_sampler *grammar = nullptr; // may be missing: then only reasoning is watched
	llama_sampler *thinking = nullptr;
	bool lazy = false;           // the library's own trigger wakes the grammar
	bool after_thinking = false; // the grammar begins when the reasoning block has ended, or with the answer
	bool begun = false;          // ... and has begun: a block can no longer start
	bool spoken = false;         // something that is not blank has come of what the grammar holds
	const llama_vocab *vocab = nullptr;
	llama_token opening = LLAMA_TOKEN_NULL; // starts a block; where the mark is several tokens, only the prompt can start one
	uint64_t reasoning_tokens = 0;

	~chat_grammar();
	bool thinks() const;
	bool asleep() const;
};
std::unique_ptr<chat_grammar> make_grammar(const chat_templates &templates, const common_chat_params &params,
                                           llama_sampler *schema, bool at_once, int64_t reasoning_budget);

// The readers' inside is their own file's affair.
std::shared_ptr<chat_reader> make_reader(const common_chat_parser_params &parser, const common_chat_params &params,
                                         bool content_is_json, const std::string &tools_json, bool one_call);

#endif
