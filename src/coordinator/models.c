/* Which models can be asked for (http-api 2.11): those that connected providers advertise. */
#include "coordinator/server.h"

#include "core/json.h"

#include <stdlib.h>

#define MODELS_MAX 4096

static void put_price(struct json_writer *w, const char *name, int64_t per_million)
{
	char text[PRICE_USD_SIZE];
	price_format_per_token(per_million, text);
	json_put_cstr(w, name, text);
}

static void put_strings(struct json_writer *w, const char *name, const char *const *texts)
{
	json_key(w, name);
	json_begin_array(w);
	for (; *texts; texts++)
		json_cstr(w, *texts);
	json_end_array(w);
}

static void put_metadata(struct json_writer *w, const struct route_model_view *model)
{
	bool hardware = model->best_trust == ROUTE_TRUST_HARDWARE;
	json_key(w, "metadata");
	json_begin_object(w);
	json_put_str(w, "model_type", STR("text"));
	json_put_i64(w, "provider_count", model->nodes);
	json_put_i64(w, "attested_providers", model->attested);
	json_put_cstr(w, "trust_level", route_trust_name(model->best_trust));
	json_key(w, "attestation");
	json_begin_object(w);
	json_put_bool(w, "secure_enclave", hardware);
	json_put_bool(w, "sip_enabled", hardware);
	json_put_bool(w, "secure_boot", hardware);
	json_end_object(w);
	json_put_str(w, "display_name", model->id);
	json_put_i64(w, "routable_providers", model->routable);
	json_put_i64(w, "warm_providers", model->warm);
	json_put_bool(w, "can_accept", model->routable > 0);
	json_end_object(w);
}

static void put_model(struct json_writer *w, struct server *server, const struct route_model_view *model)
{
	static const char *const text_only[] = {"text", NULL};
	static const char *const sampling[] = {"temperature",
	                                       "top_p",
	                                       "top_k",
	                                       "min_p",
	                                       "frequency_penalty",
	                                       "presence_penalty",
	                                       "repetition_penalty",
	                                       "logit_bias",
	                                       "logprobs",
	                                       "top_logprobs",
	                                       "stop",
	                                       "seed",
	                                       "max_tokens",
	                                       "response_format",
	                                       NULL};
	struct price price = ledger_price(server_rooms(server)->ledger, STR_NONE, model->id, false);
	json_begin_object(w);
	json_put_str(w, "id", model->id);
	json_put_str(w, "object", STR("model"));
	json_put_i64(w, "created", server_started_s(server));
	json_put_str(w, "owned_by", STR("eigeninference"));
	json_put_str(w, "name", model->id);
	put_strings(w, "input_modalities", text_only);
	put_strings(w, "output_modalities", text_only);
	json_key(w, "pricing");
	json_begin_object(w);
	put_price(w, "prompt", price.input);
	put_price(w, "completion", price.output);
	json_put_str(w, "image", STR("0"));
	json_put_str(w, "request", STR("0"));
	json_end_object(w);
	put_strings(w, "supported_sampling_parameters", sampling);
	put_metadata(w, model);
	json_end_object(w);
}

static size_t list(struct server *server, struct route_model_view **views)
{
	*views = calloc(MODELS_MAX, sizeof **views);
	if (!*views)
		return 0;
	size_t count = fleet_models(server_rooms(server)->fleet, *views, MODELS_MAX);
	return count < MODELS_MAX ? count : MODELS_MAX;
}

void handle_models(struct server *server, struct exchange *exchange)
{
	struct route_model_view *views;
	size_t count = list(server, &views);
	struct buf body;
	struct json_writer w;
	buf_init(&body, 16u << 20);
	json_writer_init(&w, &body);
	json_begin_object(&w);
	json_put_str(&w, "object", STR("list"));
	json_key(&w, "data");
	json_begin_array(&w);
	for (size_t i = 0; i < count; i++)
		put_model(&w, server, &views[i]);
	json_end_array(&w);
	json_end_object(&w);
	buf_append_byte(&body, '\n');
	exchange_json(exchange, 200, buf_str(&body));
	buf_free(&body);
	free(views);
}

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	char lower = (char)(c | 0x20);
	return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

/* Ids hold '/' and other characters that may arrive percent-encoded. */
static struct str percent_decoded(struct arena *arena, struct str text)
{
	char *out = arena_alloc(arena, text.len + 1);
	size_t len = 0;
	for (size_t i = 0; out && i < text.len; i++) {
		int high = text.at[i] == '%' && i + 2 < text.len ? hex_value(text.at[i + 1]) : -1;
		int low = high >= 0 ? hex_value(text.at[i + 2]) : -1;
		if (low >= 0) {
			out[len++] = (char)(high * 16 + low);
			i += 2;
		} else {
			out[len++] = text.at[i];
		}
	}
	return (struct str){out, len};
}

void handle_model(struct server *server, struct exchange *exchange)
{
	struct str path = http_path(exchange->http);
	size_t prefix = strlen("/v1/models/");
	struct str id = percent_decoded(http_arena(exchange->http), str_sub(path, prefix, path.len));
	struct route_model_view *views;
	size_t count = list(server, &views), at = 0;
	while (at < count && !str_eq(views[at].id, id))
		at++;
	if (at == count) {
		struct api_error error;
		api_fail(&error, 404, "model_not_found", NULL, "model",
		         "No provider offers this model: GET /v1/models lists those that can be used.");
		exchange_error(exchange, &error);
	} else {
		struct buf body;
		struct json_writer w;
		buf_init(&body, 64u << 10);
		json_writer_init(&w, &body);
		put_model(&w, server, &views[at]);
		buf_append_byte(&body, '\n');
		exchange_json(exchange, 200, buf_str(&body));
		buf_free(&body);
	}
	free(views);
}
