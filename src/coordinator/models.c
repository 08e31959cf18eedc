#include "coordinator/models.h"

#include "core/clock.h"
#include "core/json.h"
#include "core/map.h"
#include "wire/register.h"

#include <stdlib.h>

#define LISTING_MAX_BYTES (64u << 20)
/* A fleet in motion changes its listing all the time: what was made stays for so many times as long as making it took. */
#define KEPT_TIMES 10

struct entry {
	size_t from, len; /* in the listing */
};

struct models {
	struct models_source source;
	uint64_t version, made_us, took_us;
	bool made;
	struct route_model_view *views;
	struct entry *entries;
	size_t count;
	struct map by_id; /* id -> struct entry; the ids live in `ids` */
	struct buf ids, listing, openrouter;
};

struct models *models_new(const struct models_source *source)
{
	struct models *models = calloc(1, sizeof *models);
	if (!models)
		return NULL;
	models->source = *source;
	map_init(&models->by_id);
	buf_init(&models->ids, (size_t)MODELS_MAX * ROUTE_MODEL_SIZE);
	buf_init(&models->listing, LISTING_MAX_BYTES);
	buf_init(&models->openrouter, LISTING_MAX_BYTES);
	models->views = calloc(MODELS_MAX, sizeof *models->views);
	models->entries = calloc(MODELS_MAX, sizeof *models->entries);
	if (models->views && models->entries)
		return models;
	models_free(models);
	return NULL;
}

void models_free(struct models *models)
{
	if (!models)
		return;
	map_free(&models->by_id);
	buf_free(&models->ids);
	buf_free(&models->listing);
	buf_free(&models->openrouter);
	free(models->views);
	free(models->entries);
	free(models);
}

/* --- parts of an entry --- */

static void put_price(struct json_writer *w, const char *name, int64_t per_million)
{
	char text[PRICE_USD_SIZE];
	price_format_per_token(per_million, text);
	json_put_cstr(w, name, text);
}

static void put_pricing(struct json_writer *w, struct price price)
{
	json_key(w, "pricing");
	json_begin_object(w);
	put_price(w, "prompt", price.input);
	put_price(w, "completion", price.output);
	json_put_str(w, "image", STR("0"));
	json_put_str(w, "request", STR("0"));
	put_price(w, "input_cache_read", price.input); /* a token that came from the cache is charged like any other */
	json_end_object(w);
}

static void put_strings(struct json_writer *w, const char *name, const char *const *texts)
{
	json_key(w, name);
	json_begin_array(w);
	for (; *texts; texts++)
		json_cstr(w, *texts);
	json_end_array(w);
}

/* The vocabulary of http-api 2.11; the longest name that occurs wins. Empty when none does. */
static struct str quantization_of(struct str text)
{
	static const struct {
		const char *name, *kind;
	} known[] = {{"bfloat16", "bf16"}, {"float16", "fp16"}, {"float32", "fp32"}, {"mxfp4", "fp4"}, {"nvfp4", "fp4"},
	             {"2bit", "int4"},     {"3bit", "int4"},    {"4bit", "int4"},    {"6bit", "fp6"},  {"8bit", "int8"},
	             {"bf16", "bf16"},     {"fp16", "fp16"},    {"fp32", "fp32"},    {"int4", "int4"}, {"int8", "int8"},
	             {"fp4", "fp4"},       {"fp6", "fp6"},      {"fp8", "fp8"},      {"f16", "fp16"},  {"f32", "fp32"},
	             {"q2", "int4"},       {"q3", "int4"},      {"q4", "int4"},      {"q6", "fp6"},    {"q8", "int8"}};
	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		if (str_contains_nocase(text, str_of(known[i].name)))
			return str_of(known[i].kind);
	return STR_NONE;
}

static void put_features(struct json_writer *w, uint32_t can)
{
	static const struct {
		uint32_t bit;
		const char *name;
	} features[] = {{WIRE_CAN_JSON, "json_mode"},
	                {WIRE_CAN_LOGPROBS, "logprobs"},
	                {WIRE_CAN_REASON, "reasoning"},
	                {WIRE_CAN_SCHEMA, "structured_outputs"},
	                {WIRE_CAN_TOOLS, "tools"}};
	json_key(w, "supported_features");
	json_begin_array(w);
	for (size_t i = 0; i < sizeof features / sizeof *features; i++)
		if (can & features[i].bit)
			json_cstr(w, features[i].name);
	json_end_array(w);
}

static void put_sampling(struct json_writer *w, uint32_t can)
{
	static const char *const every[] = {
	    "temperature",        "top_p", "top_k", "min_p",     "frequency_penalty", "presence_penalty",
	    "repetition_penalty", "stop",  "seed",  "max_tokens"};
	json_key(w, "supported_sampling_parameters");
	json_begin_array(w);
	for (size_t i = 0; (can & WIRE_CAN_CHAT) && i < sizeof every / sizeof *every; i++)
		json_cstr(w, every[i]);
	if (can & WIRE_CAN_TOOLS) {
		json_str(w, STR("tools"));
		json_str(w, STR("tool_choice"));
	}
	if (can & WIRE_CAN_LOGPROBS) {
		json_str(w, STR("logit_bias"));
		json_str(w, STR("logprobs"));
		json_str(w, STR("top_logprobs"));
	}
	if (can & WIRE_CAN_SCHEMA)
		json_str(w, STR("response_format"));
	json_end_array(w);
}

static bool only_embeds(const struct route_model_view *model)
{
	return (model->can & WIRE_CAN_EMBED) && !(model->can & WIRE_CAN_CHAT);
}

static void put_metadata(struct json_writer *w, const struct route_model_view *model)
{
	bool hardware = model->best_trust == ROUTE_TRUST_HARDWARE;
	json_key(w, "metadata");
	json_begin_object(w);
	json_put_str(w, "model_type", only_embeds(model) ? STR("embedding") : STR("text"));
	json_put_str(w, "quantization", model->quantization);
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

/* What both listings say of a model, in the names of the OpenAI API and its relatives. */
static void put_described(struct json_writer *w, const struct models *models, const struct route_model_view *model)
{
	static const char *const text[] = {"text", NULL}, *const vectors[] = {"embeddings", NULL};
	struct str quantization = quantization_of(model->quantization);
	json_put_str(w, "name", model->id);
	put_strings(w, "input_modalities", text);
	put_strings(w, "output_modalities", only_embeds(model) ? vectors : text);
	if (quantization.len > 0)
		json_put_str(w, "quantization", quantization);
	if (model->context_tokens > 0) {
		json_put_i64(w, "context_length", (int64_t)model->context_tokens);
		json_put_i64(w, "max_output_length", (int64_t)model->context_tokens);
	}
	put_pricing(w, models->source.price(models->source.user, model->id));
	put_sampling(w, model->can);
	put_features(w, model->can);
}

/* The same entry answers clients of the OpenAI and of the Anthropic API: their members do not collide. */
static void put_model(struct json_writer *w, const struct models *models, const struct route_model_view *model)
{
	char created[CLOCK_RFC3339_SIZE];
	clock_format_rfc3339(models->source.created_s * 1000000, created);
	json_begin_object(w);
	json_put_str(w, "id", model->id);
	json_put_str(w, "object", STR("model"));
	json_put_i64(w, "created", models->source.created_s);
	json_put_str(w, "owned_by", STR("eigeninference"));
	put_described(w, models, model);
	put_metadata(w, model);
	json_put_str(w, "type", STR("model"));
	json_put_str(w, "display_name", model->id);
	json_put_cstr(w, "created_at", created);
	json_put_str(w, "lifecycle", STR("active"));
	if (model->context_tokens > 0) {
		json_put_i64(w, "max_input_tokens", (int64_t)model->context_tokens);
		json_put_i64(w, "max_tokens", (int64_t)model->context_tokens);
	}
	json_end_object(w);
}

/* --- listings --- */

static void put_page_end(struct json_writer *w, const struct models *models)
{
	json_put_bool(w, "has_more", false);
	json_key(w, "first_id");
	if (models->count > 0)
		json_str(w, models->views[0].id);
	else
		json_null(w);
	json_key(w, "last_id");
	if (models->count > 0)
		json_str(w, models->views[models->count - 1].id);
	else
		json_null(w);
}

static void make_listing(struct models *models)
{
	struct json_writer w;
	struct buf *out = &models->listing;
	json_writer_init(&w, out);
	json_begin_object(&w);
	json_put_str(&w, "object", STR("list"));
	json_key(&w, "data");
	json_begin_array(&w);
	for (size_t i = 0; i < models->count; i++) {
		size_t from = out->len + (i > 0); /* behind the comma */
		put_model(&w, models, &models->views[i]);
		models->entries[i] = (struct entry){from, out->len - from};
		(void)map_put(&models->by_id, models->views[i].id, &models->entries[i], NULL);
	}
	json_end_array(&w);
	put_page_end(&w, models);
	json_end_object(&w);
	buf_append_byte(out, '\n');
}

static void put_openrouter(struct json_writer *w, const struct models *models, const struct route_model_view *model)
{
	json_begin_object(w);
	json_put_str(w, "id", model->id);
	json_put_str(w, "hugging_face_id", model->id);
	json_put_i64(w, "created", models->source.created_s);
	put_described(w, models, model);
	json_put_bool(w, "is_ready", model->routable > 0);
	json_key(w, "openrouter");
	json_begin_object(w);
	json_put_str(w, "slug", model->id);
	json_end_object(w);
	json_end_object(w);
}

static void make_openrouter(struct models *models)
{
	struct json_writer w;
	json_writer_init(&w, &models->openrouter);
	json_begin_object(&w);
	json_key(&w, "data");
	json_begin_array(&w);
	for (size_t i = 0; i < models->count; i++)
		if (!only_embeds(&models->views[i]))
			put_openrouter(&w, models, &models->views[i]);
	json_end_array(&w);
	json_end_object(&w);
	buf_append_byte(&models->openrouter, '\n');
}

/* The views' ids are borrowed from routing, the entries are found by them later: they need a home. */
static void keep_ids(struct models *models)
{
	(void)buf_reserve(&models->ids, models->count * ROUTE_MODEL_SIZE); /* so that it does not move */
	for (size_t i = 0; i < models->count; i++) {
		struct str *id = &models->views[i].id;
		size_t from = models->ids.len;
		buf_append_str(&models->ids, *id);
		*id = (struct str){models->ids.at + from, id->len};
	}
}

static void refresh(struct models *models)
{
	uint64_t version = models->source.version(models->source.user), now = clock_mono_us();
	if (models->made && (version == models->version || now < models->made_us + KEPT_TIMES * models->took_us))
		return;
	map_free(&models->by_id);
	map_init(&models->by_id);
	buf_clear(&models->ids);
	buf_clear(&models->listing);
	buf_clear(&models->openrouter);
	size_t count = models->source.views(models->source.user, models->views, MODELS_MAX);
	models->count = count < MODELS_MAX ? count : MODELS_MAX;
	keep_ids(models);
	if (!models->ids.failed) {
		make_listing(models);
		make_openrouter(models);
	}
	models->version = version;
	models->made = !models->ids.failed && !models->listing.failed && !models->openrouter.failed;
	models->made_us = clock_mono_us();
	models->took_us = models->made_us - now;
}

struct str models_list(struct models *models)
{
	refresh(models);
	return models->made ? buf_str(&models->listing) : STR_NONE;
}

struct str models_openrouter(struct models *models)
{
	refresh(models);
	return models->made ? buf_str(&models->openrouter) : STR_NONE;
}

struct str models_one(struct models *models, struct str id)
{
	refresh(models);
	const struct entry *entry = models->made ? map_get(&models->by_id, id) : NULL;
	return entry ? str_sub(buf_str(&models->listing), entry->from, entry->len) : STR_NONE;
}
