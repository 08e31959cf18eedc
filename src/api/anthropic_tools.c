/* Tools and the choice among them, in the shape of the chat API. */
#include "api/anthropic.h"

static bool lower_tool(struct anthropic_lowering *to, const json_val *tool, size_t index)
{
	struct str type = STR_NONE, name, description;
	const json_val *schema = json_get(tool, "input_schema"), *strict = json_get_some(tool, "strict");
	if (json_type(tool) != JSON_OBJECT)
		return chat_refuse(to->error, "tools", "tools[%zu] must be an object.", index);
	json_as_str(json_get(tool, "type"), &type);
	if (type.len > 0 && !str_is(type, "custom"))
		return chat_refuse(to->error, "tools",
		                   "tools[%zu] is a tool that its API runs or defines by itself: only tools with a name "
		                   "and an input_schema of your own can be used here.",
		                   index);
	if (!json_as_str(json_get(tool, "name"), &name) || name.len == 0)
		return chat_refuse(to->error, "tools", "tools[%zu].name is required.", index);
	if (json_type(schema) != JSON_OBJECT)
		return chat_refuse(to->error, "tools", "tools[%zu].input_schema is required: a JSON schema of type object.", index);
	json_begin_object(&to->w);
	json_put_str(&to->w, "type", STR("function"));
	json_key(&to->w, "function");
	json_begin_object(&to->w);
	json_put_str(&to->w, "name", name);
	if (json_as_str(json_get(tool, "description"), &description))
		json_put_str(&to->w, "description", description);
	json_key(&to->w, "parameters");
	json_value(&to->w, schema);
	if (strict) {
		json_key(&to->w, "strict");
		json_value(&to->w, strict);
	}
	json_end_object(&to->w);
	json_end_object(&to->w);
	return true;
}

static bool lower_choice(struct anthropic_lowering *to, const json_val *choice, bool has_tools)
{
	struct str type, name;
	bool single = false;
	const json_val *parallel = json_get_some(choice, "disable_parallel_tool_use");
	if (!choice)
		return true;
	if (!json_as_str(json_get(choice, "type"), &type) ||
	    !(str_is(type, "auto") || str_is(type, "any") || str_is(type, "tool") || str_is(type, "none")))
		return chat_refuse(to->error, "tool_choice", "tool_choice.type must be auto, any, tool or none.");
	if (parallel && !json_as_bool(parallel, &single))
		return chat_refuse(to->error, "tool_choice", "tool_choice.disable_parallel_tool_use must be true or false.");
	if (!has_tools && !str_is(type, "none"))
		return chat_refuse(to->error, "tool_choice", "tool_choice needs at least one entry in tools.");
	json_key(&to->w, "tool_choice");
	if (str_is(type, "tool")) {
		if (!json_as_str(json_get(choice, "name"), &name) || name.len == 0)
			return chat_refuse(to->error, "tool_choice", "tool_choice.name is required where the type is tool.");
		json_begin_object(&to->w);
		json_put_str(&to->w, "type", STR("function"));
		json_key(&to->w, "function");
		json_begin_object(&to->w);
		json_put_str(&to->w, "name", name);
		json_end_object(&to->w);
		json_end_object(&to->w);
	} else {
		json_str(&to->w, str_is(type, "any") ? STR("required") : type);
	}
	if (parallel)
		json_put_bool(&to->w, "parallel_tool_calls", !single);
	return true;
}

bool anthropic_lower_tools(struct anthropic_lowering *to, const json_val *root)
{
	const json_val *tools = json_get_some(root, "tools");
	if (tools && json_type(tools) != JSON_ARRAY)
		return chat_refuse(to->error, "tools", "tools must be an array.");
	bool has_tools = json_len(tools) > 0;
	if (has_tools) {
		json_key(&to->w, "tools");
		json_begin_array(&to->w);
		struct json_iter iter = json_iter(tools);
		size_t index = 0;
		for (json_val *tool; (tool = json_next(&iter, NULL)); index++)
			if (!lower_tool(to, tool, index))
				return false;
		json_end_array(&to->w);
	}
	return lower_choice(to, json_get_some(root, "tool_choice"), has_tools);
}
