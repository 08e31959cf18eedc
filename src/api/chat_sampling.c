/* Sampling parameters of a chat request: each honoured or refused, never ignored. */
#include "api/chat_internal.h"

#include <math.h>

bool chat_get_bool(const json_val *root, const char *name, bool *out, struct api_error *error)
{
	const json_val *value = json_get_some(root, name);
	if (value && !json_as_bool(value, out))
		return chat_refuse(error, name, "%s must be true or false.", name);
	return true;
}

bool chat_get_int(const json_val *root, const char *name, int64_t min, int64_t max, bool *given, int64_t *out,
                  struct api_error *error)
{
	const json_val *value = json_get_some(root, name);
	int64_t number;
	if (!value)
		return true;
	if (!json_as_i64(value, &number))
		return chat_refuse(error, name, "%s must be an integer.", name);
	if (number < min || number > max)
		return chat_refuse(error, name, "%s must be between %lld and %lld.", name, (long long)min, (long long)max);
	*given = true;
	*out = number;
	return true;
}

bool chat_get_double(const json_val *root, const char *name, double min, double max, bool *given, double *out,
                     struct api_error *error)
{
	const json_val *value = json_get_some(root, name);
	double number;
	if (!value)
		return true;
	if (!json_as_double(value, &number) || !isfinite(number))
		return chat_refuse(error, name, "%s must be a number.", name);
	if (number < min || number > max)
		return chat_refuse(error, name, "%s must be between %g and %g.", name, min, max);
	*given = true;
	*out = number;
	return true;
}

static bool parse_numbers(const json_val *root, struct chat_sampling *s, struct api_error *error)
{
	int64_t top_k = 0, seed = 0, top_logprobs = 0;
	bool given = false;
	if (!chat_get_double(root, "temperature", 0, 2, &s->has_temperature, &s->temperature, error) ||
	    !chat_get_double(root, "top_p", 0, 1, &s->has_top_p, &s->top_p, error) ||
	    !chat_get_int(root, "top_k", -1, INT32_MAX, &s->has_top_k, &top_k, error) ||
	    !chat_get_double(root, "min_p", 0, 1, &s->has_min_p, &s->min_p, error) ||
	    !chat_get_double(root, "typical_p", 0, 1, &s->has_typical_p, &s->typical_p, error) ||
	    !chat_get_int(root, "seed", INT64_MIN, INT64_MAX, &s->has_seed, &seed, error) ||
	    !chat_get_double(root, "frequency_penalty", -2, 2, &s->has_frequency_penalty, &s->frequency_penalty, error) ||
	    !chat_get_double(root, "presence_penalty", -2, 2, &s->has_presence_penalty, &s->presence_penalty, error) ||
	    !chat_get_double(root, "repetition_penalty", 0, 10, &s->has_repetition_penalty, &s->repetition_penalty, error) ||
	    !chat_get_bool(root, "ignore_eos", &s->ignore_eos, error) ||
	    !chat_get_int(root, "min_tokens", 0, INT32_MAX, &given, &s->min_tokens, error) ||
	    !chat_get_bool(root, "logprobs", &s->logprobs, error) ||
	    !chat_get_int(root, "top_logprobs", 0, 20, &given, &top_logprobs, error))
		return false;
	if (s->has_repetition_penalty && s->repetition_penalty <= 0)
		return chat_refuse(error, "repetition_penalty", "repetition_penalty must be above 0.");
	if (top_logprobs > 0 && !s->logprobs)
		return chat_refuse(error, "top_logprobs", "top_logprobs needs logprobs to be true.");
	s->top_k = top_k < 0 ? 0 : (int32_t)top_k; /* -1 is a usual way to say "off" */
	s->seed = (uint64_t)seed;
	s->top_logprobs = (int32_t)top_logprobs;
	return true;
}

static bool add_stop(const json_val *value, struct chat_sampling *s, struct api_error *error)
{
	struct str text;
	if (!json_as_str(value, &text))
		return chat_refuse(error, "stop", "stop must be a string or an array of strings.");
	if (text.len == 0)
		return chat_refuse(error, "stop", "A stop string must not be empty.");
	if (s->stop_count == CHAT_MAX_STOPS)
		return chat_refuse(error, "stop", "At most %d stop strings can be given.", CHAT_MAX_STOPS);
	s->stops[s->stop_count++] = text;
	return true;
}

static bool parse_stops(const json_val *root, struct chat_sampling *s, struct api_error *error)
{
	const json_val *stop = json_get_some(root, "stop");
	if (!stop)
		return true;
	if (json_type(stop) != JSON_ARRAY)
		return add_stop(stop, s, error);
	struct json_iter iter = json_iter(stop);
	for (json_val *value; (value = json_next(&iter, NULL));)
		if (!add_stop(value, s, error))
			return false;
	return true;
}

static bool parse_stop_tokens(const json_val *root, struct chat_sampling *s, struct api_error *error)
{
	const json_val *ids = json_get_some(root, "stop_token_ids");
	if (!ids)
		return true;
	if (json_type(ids) != JSON_ARRAY || json_len(ids) > CHAT_MAX_STOP_TOKENS)
		return chat_refuse(error, "stop_token_ids", "stop_token_ids must be an array of at most %d token ids.",
		                   CHAT_MAX_STOP_TOKENS);
	struct json_iter iter = json_iter(ids);
	for (json_val *value; (value = json_next(&iter, NULL));) {
		int64_t id;
		if (!json_as_i64(value, &id) || id < 0 || id > INT32_MAX)
			return chat_refuse(error, "stop_token_ids", "The members of stop_token_ids must be token ids.");
		s->stop_tokens[s->stop_token_count++] = (int32_t)id;
	}
	return true;
}

static bool parse_biases(const json_val *root, struct arena *arena, struct chat_sampling *s, struct api_error *error)
{
	const json_val *biases = json_get_some(root, "logit_bias");
	if (!biases)
		return true;
	if (json_type(biases) != JSON_OBJECT)
		return chat_refuse(error, "logit_bias", "logit_bias must be an object of token ids and numbers.");
	size_t count = json_len(biases);
	if (count > CHAT_MAX_BIASES)
		return chat_refuse(error, "logit_bias", "At most %d tokens can be biased.", CHAT_MAX_BIASES);
	s->biases = arena_alloc(arena, (count + 1) * sizeof *s->biases);
	if (!s->biases)
		return api_fail(error, 503, "service_unavailable", NULL, NULL, "The request needs more memory than there is.");
	struct json_iter iter = json_iter(biases);
	struct str key;
	for (json_val *value; (value = json_next(&iter, &key));) {
		uint64_t token;
		double bias;
		if (!str_to_u64(key, &token) || token > INT32_MAX)
			return chat_refuse(error, "logit_bias", "The keys of logit_bias must be token ids.");
		if (!json_as_double(value, &bias) || !(bias >= -100 && bias <= 100))
			return chat_refuse(error, "logit_bias", "The values of logit_bias must be between -100 and 100.");
		s->biases[s->bias_count++] = (struct chat_logit_bias){(int32_t)token, (float)bias};
	}
	return true;
}

bool chat_sampling_parse(const json_val *root, struct arena *arena, struct chat_sampling *out, struct api_error *error)
{
	return parse_numbers(root, out, error) && parse_stops(root, out, error) && parse_stop_tokens(root, out, error) &&
	       parse_biases(root, arena, out, error);
}
