// Bounds of numbers, of which the library's grammar leaves out those with a fraction and cuts others. It is given a constant in
// their place, and in the grammar that it makes the constant's text gives way to the numbers within the bounds.
#include "provider/engine/chat_shim.hpp"

#include <algorithm>
#include <initializer_list>

extern "C" {
#include "provider/engine/number_grammar.h"
}

// Of two bounds of a side the one that leaves less.
struct side {
	std::string text;
	double value = 0;
	bool excluded = false;
};

static void narrow(side &side, const common_json &schema, const char *name, bool excluded, bool lowest)
{
	if (!schema.contains(name) || !schema.at(name).is_number())
		return;
	double value = schema.at(name).get<double>();
	bool nearer = lowest ? value > side.value : value < side.value, same = !(value < side.value) && !(value > side.value);
	if (!side.text.empty() && !nearer && !(same && excluded))
		return;
	side = {schema.at(name).dump(), value, excluded};
}

static std::string piece_of(const common_json &schema, bool integers)
{
	side least, most;
	narrow(least, schema, "minimum", false, true);
	narrow(least, schema, "exclusiveMinimum", true, true);
	narrow(most, schema, "maximum", false, false);
	narrow(most, schema, "exclusiveMaximum", true, false);
	const number_bound from = {least.text.empty() ? nullptr : least.text.c_str(), least.excluded};
	const number_bound to = {most.text.empty() ? nullptr : most.text.c_str(), most.excluded};
	struct buf piece;
	buf_init(&piece, size_t(1) << 20);
	enum db_err err = number_grammar(&from, &to, integers, &piece);
	std::string text = err ? "" : std::string(piece.at, piece.len);
	buf_free(&piece);
	if (err == DB_E_NOMEM)
		throw std::bad_alloc();
	if (err)
		throw client_fault{
		    err == DB_E_RANGE
		        ? "response_format: this JSON schema cannot be expressed: it has bounds that no number fits"
		        : "response_format: this JSON schema cannot be expressed: a bound that only numbers of more than 20 "
		          "digits keep is not supported"};
	return text;
}

static bool has_any(const common_json &schema, std::initializer_list<const char *> names)
{
	return std::any_of(names.begin(), names.end(), [&](const char *name) { return schema.contains(name); });
}

static bool is_bounded(const common_json &schema)
{
	return !has_any(schema, {"const", "enum", "$ref", "anyOf", "oneOf", "allOf"}) &&
	       has_any(schema, {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"});
}

static bool is_number(const common_json &type)
{
	return type.is_string() && (type.get<std::string>() == "number" || type.get<std::string>() == "integer");
}

std::string bounded_numbers::mark_of(size_t number) const
{
	return mark + std::to_string(number);
}

// Of several types: each by itself, so that the bounds are the numbers' alone.
void bounded_numbers::part_types(common_json &schema)
{
	common_json choices = common_json::array();
	for (const auto &type : schema.at("type")) {
		common_json choice = schema;
		choice["type"] = type;
		choices.push_back(choice);
	}
	if (choices.size())
		schema = common_json::object({{"anyOf", choices}});
}

void bounded_numbers::walk(common_json &schema)
{
	static const std::unordered_set<std::string> maps = {"properties", "$defs", "definitions"};
	static const std::unordered_set<std::string> below = {"items", "additionalProperties", "anyOf", "oneOf",
	                                                      "allOf", "prefixItems"};
	if (schema.is_array()) {
		for (auto &member : schema)
			walk(member);
		return;
	}
	if (!schema.is_object())
		return;
	if (is_bounded(schema) && schema.contains("type") && is_number(schema.at("type"))) {
		pieces.push_back(piece_of(schema, schema.at("type").get<std::string>() == "integer"));
		schema = common_json::object({{"const", mark_of(pieces.size() - 1)}});
		return;
	}
	if (is_bounded(schema) && schema.contains("type") && schema.at("type").is_array())
		part_types(schema);
	for (const auto &item : schema.items()) {
		if (below.count(item.key()))
			walk(item.value());
		if (maps.count(item.key()) && item.value().is_object())
			for (const auto &member : item.value().items())
				walk(member.value());
	}
}

common_json bounded_numbers::take(const std::string &schema)
{
	common_json read = common_json::parse(schema);
	pieces.clear();
	for (mark = "boundednumber"; schema.find(mark) != std::string::npos;)
		mark += "x"; // no member of the schema is called so
	walk(read);
	return read;
}

void bounded_numbers::put(std::string &grammar) const
{
	std::string rules;
	for (size_t i = 0; i < pieces.size(); i++) {
		std::string literal = "\"\\\"" + mark_of(i) + "\\\"\"";
		for (size_t at; (at = grammar.find(literal)) != std::string::npos;)
			grammar.replace(at, literal.size(), mark_of(i));
		rules += "\n" + mark_of(i) + " ::= " + pieces[i] + "\n";
	}
	grammar += rules;
}
