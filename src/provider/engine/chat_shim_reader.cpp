// The answer's text taken apart: content, reasoning, tool calls.
//
// The library's parser reads a whole text at once, so reading an answer piece by piece costs the square of its length. Two
// things make it linear. Where everything that comes simply goes on the content or the reasoning ("flow"), text is passed on
// without parsing, as long as nothing in it could be a marker of the family. Elsewhere, in a long call's arguments, the parser
// runs only once the text has grown by a part of itself.
#include "provider/engine/chat_shim.hpp"

extern "C" {
#include "core/buf.h"
#include "provider/engine/chat_foreign_calls.h"
}

#include "chat-peg-parser.h"

#include <algorithm>
#include <random>
#include <variant>

// Openings of tool calls, of all families: what follows one that cannot be read is content.
static const char *const call_openings[] = {
    "<tool_call>",    "<|tool_call>",        "<|tool_call_start|>", "<start_function_call>",
    "<|python_tag|>", "[TOOL_CALLS]",        "<minimax:tool_call>", "<|tool_calls_section_begin|>",
    "<function=",     "<|tool_call_begin|>", "<TOOLCALL>",
};

struct chat_reader {
	struct sent_call {
		std::string id;
		bool named = false;
		size_t arguments = 0;
	};
	enum flow { FLOW_NONE, FLOW_CONTENT, FLOW_REASONING };

	common_chat_parser_params params;
	std::vector<std::string> thinking_ends;
	std::vector<std::string> markers;
	bool marker_begins[256] = {};
	bool may_flow = true;

	std::string text;
	size_t parsed = 0; // bytes of the text that the last run of the parser saw
	size_t passed = 0; // bytes that were passed on in flow, or seen by the parser
	flow state = FLOW_NONE;
	size_t sent_content = 0, sent_reasoning = 0;
	std::string content_tail; // the last that was sent of it
	std::vector<sent_call> sent_calls;
	// calls in another family's form, which the parser does not see; `places` are those of the parser's calls among all
	std::unique_ptr<chat_foreign, decltype(&chat_foreign_free)> foreign{nullptr, chat_foreign_free};
	std::vector<std::pair<std::string, std::string>> taken; // by this feed
	std::vector<size_t> places;
	size_t call_count = 0;
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

	// --- what the parser found ---

	size_t place_of(size_t index)
	{
		while (places.size() <= index)
			places.push_back(call_count++);
		return places[index];
	}

	void read_call(size_t index, const common_chat_tool_call &call, bool last, bool final, common_json &deltas)
	{
		if (sent_calls.size() <= index)
			sent_calls.resize(index + 1);
		auto &sent = sent_calls[index];
		// a name is given out once it can no longer grow: when arguments or another call follow
		bool settled = !call.arguments.empty() || !last || final;
		common_json delta = common_json::object();
		common_json function = common_json::object();
		if (!sent.named && settled) {
			sent.named = true;
			sent.id = call.id.empty() ? new_id() : call.id;
			delta["id"] = sent.id;
			delta["type"] = "function";
			function["name"] = call.name;
		}
		if (!sent.named)
			return;
		delta["index"] = (int64_t)place_of(index);
		if (call.arguments.size() > sent.arguments) {
			function["arguments"] = call.arguments.substr(sent.arguments);
			sent.arguments = call.arguments.size();
		} else if (function.contains("name")) {
			function["arguments"] = "";
		}
		if (function.empty())
			return;
		delta["function"] = function;
		deltas.push_back(delta);
	}

	// Calls of another form, complete each.
	void give_taken(common_json &deltas)
	{
		for (const auto &call : taken) {
			common_json delta = common_json::object(), function = common_json::object();
			function["name"] = call.first;
			function["arguments"] = call.second;
			delta["index"] = (int64_t)call_count++;
			delta["id"] = new_id();
			delta["type"] = "function";
			delta["function"] = function;
			deltas.push_back(delta);
		}
		taken.clear();
	}

	void read_calls(const std::vector<common_chat_tool_call> &calls, bool final)
	{
		common_json deltas = common_json::array();
		give_taken(deltas);
		for (size_t i = 0; i < calls.size(); i++)
			if (!calls[i].name.empty())
				read_call(i, calls[i], i + 1 == calls.size(), final, deltas);
		if (!deltas.empty())
			calls_json = deltas.dump_safe();
	}

	void give_content(const std::string &more)
	{
		content += more;
		sent_content += more.size();
		content_tail = (content_tail + more).substr(std::max<ssize_t>(0, (ssize_t)(content_tail.size() + more.size()) - 64));
	}

	void give_reasoning(const std::string &more)
	{
		reasoning += more;
		sent_reasoning += more.size();
	}

	void read(const common_chat_msg &message, bool final)
	{
		if (message.reasoning_content.size() > sent_reasoning)
			give_reasoning(message.reasoning_content.substr(sent_reasoning));
		if (message.content.size() > sent_content)
			give_content(message.content.substr(sent_content));
		read_calls(message.tool_calls, final);
	}

	// --- flow ---

	void collect_markers()
	{
		auto add = [this](const std::string &word) {
			bool blank = std::all_of(word.begin(), word.end(), [](unsigned char c) { return std::isspace(c); });
			if (!blank && std::find(markers.begin(), markers.end(), word) == markers.end())
				markers.push_back(word);
		};
		for (size_t i = 0; i < params.parser.size(); i++) {
			const auto &part = params.parser.get(i);
			if (auto until = std::get_if<common_peg_until_parser>(&part))
				for (const auto &word : until->delimiters)
					add(word);
			if (auto search = std::get_if<common_peg_ac_parser>(&part))
				for (const auto &word : search->delimiters)
					add(word);
			if (auto literal = std::get_if<common_peg_literal_parser>(&part))
				if (literal->literal.size() > 1)
					add(literal->literal);
		}
		for (const auto &word : thinking_ends)
			add(word);
		for (const auto &word : markers)
			marker_begins[(unsigned char)word[0]] = true;
	}

	// Does a marker stand at `at`, or could one that is not complete?
	enum sight { NOTHING, MAYBE, MARKER };
	sight look(size_t at) const
	{
		sight seen = NOTHING;
		for (const auto &word : markers) {
			size_t len = std::min(word.size(), text.size() - at);
			if (text.compare(at, len, word, 0, len) != 0)
				continue;
			if (len == word.size())
				return MARKER;
			seen = MAYBE;
		}
		return seen;
	}

	// Passes on what cannot be part of a marker. False: a marker has come.
	bool pass_on()
	{
		size_t end = passed, at = passed;
		for (; at < text.size(); at++) {
			if (marker_begins[(unsigned char)text[at]]) {
				sight seen = look(at);
				if (seen == MARKER)
					return false;
				if (seen == MAYBE)
					break;
			}
			if (!std::isspace((unsigned char)text[at])) // white space may yet turn out to belong to a marker
				end = at + 1;
		}
		if (end > passed) {
			std::string more = text.substr(passed, end - passed);
			if (state == FLOW_CONTENT)
				give_content(more);
			else
				give_reasoning(more);
			passed = end;
		}
		return true;
	}

	static size_t trimmed(const std::string &of)
	{
		size_t len = of.size();
		while (len && std::isspace((unsigned char)of[len - 1]))
			len--;
		return len;
	}

	// Is the section what the text ends with? Then what comes next goes on it.
	bool runs_to_the_end(const std::string &section) const
	{
		size_t section_len = trimmed(section), text_len = trimmed(text);
		size_t compared = std::min<size_t>(section_len, 32);
		return compared && section.size() - section_len == text.size() - text_len &&
		       text.compare(text_len - compared, compared, section, section_len - compared, compared) == 0;
	}

	void find_flow(const common_chat_msg &message, bool more_content, bool more_reasoning)
	{
		state = FLOW_NONE;
		passed = text.size();
		if (!may_flow || !message.tool_calls.empty())
			return;
		if (more_content && !more_reasoning && runs_to_the_end(message.content))
			state = FLOW_CONTENT;
		else if (more_reasoning && !more_content && runs_to_the_end(message.reasoning_content))
			state = FLOW_REASONING;
	}

	// --- feeding ---

	void parse(bool final)
	{
		size_t had_content = sent_content, had_reasoning = sent_reasoning;
		parsed = text.size();
		state = FLOW_NONE;
		common_chat_msg message = common_chat_parse(text, !final, params);
		read(message, final);
		if (!final)
			find_flow(message, sent_content > had_content, sent_reasoning > had_reasoning);
	}

	// Appends to the text what is for the parser. False: everything is.
	bool take_foreign(const char *more, size_t len, bool final)
	{
		if (!foreign)
			return false;
		struct buf rest;
		buf_init(&rest, SIZE_MAX);
		auto on_call = [](void *user, struct str name, struct str arguments) {
			static_cast<chat_reader *>(user)->taken.emplace_back(std::string(name.at, name.len),
			                                                     std::string(arguments.at, arguments.len));
		};
		enum db_err err = chat_foreign_feed(foreign.get(), {more, len}, final, &rest, on_call, this);
		if (rest.len)
			text.append(rest.at, rest.len);
		buf_free(&rest);
		if (err)
			throw std::bad_alloc();
		return true;
	}

	void feed(const char *more, size_t len, bool final)
	{
		content.clear();
		reasoning.clear();
		calls_json.clear();
		if (!take_foreign(more, len, final))
			text.append(more, len);
		read_more(final);
		if (!taken.empty()) // the parser was not asked, or did not understand
			read_calls({}, false);
	}

	void read_more(bool final)
	{
		if (!final && state != FLOW_NONE && pass_on())
			return;
		if (!final && text.size() - parsed < text.size() / 64)
			return;
		try {
			parse(final);
			if (final && !named_calls())
				give_unread_calls();
		} catch (const std::bad_alloc &) {
			throw;
		} catch (const std::exception &) {
			if (final)
				give_up();
		}
	}

	// --- answers that the family's parser cannot read ---

	size_t named_calls() const
	{
		return (size_t)std::count_if(sent_calls.begin(), sent_calls.end(), [](const sent_call &call) { return call.named; });
	}

	// Where the part begins that belongs to nothing that was given out.
	size_t unread_from() const
	{
		size_t from = 0;
		if (sent_content)
			from = text.rfind(content_tail) == std::string::npos ? 0 : text.rfind(content_tail) + content_tail.size();
		if (from == 0 && sent_reasoning)
			for (const auto &end : thinking_ends)
				if (size_t at = text.find(end); at != std::string::npos)
					from = std::max(from, at + end.size());
		size_t calls = named_calls();
		if (!calls)
			return sent_reasoning && !sent_content && !from ? text.size() : from;
		size_t openings = 0, last = text.size();
		for (const char *opening : call_openings) {
			size_t count = 0, at = from, where = std::string::npos;
			for (; (at = text.find(opening, at)) != std::string::npos; at++, count++)
				where = at;
			if (count > openings) {
				openings = count;
				last = where;
			}
		}
		return openings > calls ? last : text.size();
	}

	// Some parsers skip what begins like a call and is none.
	void give_unread_calls()
	{
		size_t from = unread_from();
		for (const char *opening : call_openings)
			if (text.find(opening, from) != std::string::npos) {
				give_content(text.substr(from));
				return;
			}
	}

	void give_up()
	{
		try {
			read(common_chat_parse(text, true, params), false);
		} catch (const std::bad_alloc &) {
			throw;
		} catch (const std::exception &) {
		}
		size_t from = unread_from();
		if (from < text.size())
			give_content(text.substr(from));
	}
};

// Which forms of calls the family does not know by itself.
static unsigned foreign_forms(const std::vector<std::string> &markers)
{
	auto knows = [&](const char *word) {
		return std::any_of(markers.begin(), markers.end(),
		                   [&](const std::string &marker) { return marker.find(word) != std::string::npos; });
	};
	unsigned forms = 0;
	if (knows("<|channel|>") || knows("<|start|>")) // channels of their own tell what is a call
		return 0;
	if (knows("<tool_call>"))
		forms |= (knows("<function=") || knows("<arg_key>") ? CHAT_FOREIGN_JSON_IN_TAGS : 0) |
		         (knows("<function=") ? 0 : CHAT_FOREIGN_XML_IN_TAGS);
	if (!knows("<|python_tag|>"))
		forms |= CHAT_FOREIGN_PYTHON_TAG;
	if (!knows("<start_function_call>"))
		forms |= CHAT_FOREIGN_FUNCTION_CALL;
	return forms;
}

static void take_foreign_calls(chat_reader &reader, const common_chat_params &params, const std::string &tools_json, bool one)
{
	static const char *const own[] = {"<|tool_call>",
	                                  "<|tool_call_start|>",
	                                  "[TOOL_CALLS]",
	                                  "<minimax:tool_call>",
	                                  "<|tool_calls_section_begin|>",
	                                  "<function=",
	                                  "<|tool_call_begin|>",
	                                  "<TOOLCALL>",
	                                  nullptr};
	std::string ends = reader.thinking_ends.empty() ? "" : reader.thinking_ends.front();
	std::string begins = ends.empty() ? "" : params.thinking_start_tag;
	size_t begun = begins.empty() ? std::string::npos : params.generation_prompt.rfind(begins);
	struct chat_foreign_options options = {};
	options.marks = foreign_forms(reader.markers);
	options.own = own;
	options.think = begins.c_str();
	options.thought = ends.c_str();
	options.thinks = begun != std::string::npos && params.generation_prompt.find(ends, begun) == std::string::npos;
	options.one = one;
	options.tools_json = tools_json.c_str();
	if (!options.marks || (params.supports_thinking && ends.empty()))
		return;
	reader.foreign.reset(chat_foreign_new(&options));
	if (!reader.foreign)
		throw std::bad_alloc();
}

std::shared_ptr<chat_reader> make_reader(const common_chat_parser_params &parser, const common_chat_params &params,
                                         bool content_is_json, const std::string &tools_json, bool one_call)
{
	auto made = std::make_shared<chat_reader>();
	made->params = parser;
	made->thinking_ends = params.thinking_end_tags;
	made->may_flow = !content_is_json;
	made->collect_markers();
	if (parser.parse_tool_calls)
		take_foreign_calls(*made, params, tools_json, one_call);
	return made;
}

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
	return reader->call_count > 0;
}
