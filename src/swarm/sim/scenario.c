#include "swarm/sim/scenario.h"

#include <stdio.h>

#include "coordinator/routing/share.h"
#include "core/arena.h"
#include "core/buf.h"
#include "core/toml.h"

#define MAX_FILE_BYTES (1u << 20)
#define COUNT(array)   (sizeof(array) / sizeof(array)[0])

static const char *const happening_names[SIM_HAPPENING_KINDS] = {
    "loss", "freeze", "stall",    "slow",   "error", "tools_error", "lie",        "hot",   "flap",   "load_failures",
    "deaf", "rate",   "unproven", "wander", "sick",  "squeezed",    "unattested", "drain", "update",
};

const char *sim_happening_name(enum sim_happening_kind kind)
{
	return kind < SIM_HAPPENING_KINDS ? happening_names[kind] : "unknown";
}

/* --- tables by description --- */

enum field_kind { REAL, NUMBER, FLAG, TEXT, HAPPENING };

struct field {
	const char *key;
	enum field_kind kind;
	size_t offset, size; /* size: of a text */
	double min, max;     /* of a number */
};

#define AT(type, member) offsetof(struct type, member)

static const struct field top_fields[] = {
    {"name", TEXT, AT(sim_scenario, name), SIM_ID_SIZE, 0, 0},
    {"about", TEXT, AT(sim_scenario, about), sizeof((struct sim_scenario *)0)->about, 0, 0},
    {"seconds", REAL, AT(sim_scenario, seconds), 0, 1, 1e6},
    {"warmup_s", REAL, AT(sim_scenario, warmup_s), 0, 0, 1e6},
};

static const struct field fleet_fields[] = {
    {"heartbeat_s", REAL, AT(sim_scenario, heartbeat_s), 0, 0.1, 600},
    {"network_ms", REAL, AT(sim_scenario, network_ms), 0, 0, 5000},
    {"network_sigma", REAL, AT(sim_scenario, network_sigma), 0, 0, 2},
    {"batch_slowdown", REAL, AT(sim_scenario, batch_slowdown), 0, 0, 4},
    {"prefill_share", REAL, AT(sim_scenario, prefill_share), 0, 0.05, 0.95},
    {"dedicated", TEXT, AT(sim_scenario, dedicated), SIM_ID_SIZE, 0, 0},
    {"cached_prompts", NUMBER, AT(sim_scenario, cached_prompts), 0, 0, 64},
};

static const struct field goal_fields[] = {
    {"ttft_ms", REAL, AT(sim_scenario, ttft_ms), 0, 1, 1e6},
    {"ttft_token_ms", REAL, AT(sim_scenario, ttft_token_ms), 0, 0, 1000},
    {"decode_tps", REAL, AT(sim_scenario, decode_tps), 0, 0, 1000},
    {"deadline_s", REAL, AT(sim_scenario, deadline_s), 0, 1, 3600},
};

static const struct field dispatch_fields[] = {
    {"hedge", FLAG, AT(sim_scenario, hedge), 0, 0, 0},
    {"planner", FLAG, AT(sim_scenario, planner), 0, 0, 0},
    {"queue_s", REAL, AT(sim_scenario, queue_s), 0, 0, 3600},
    {"shares", TEXT, AT(sim_scenario, shares), sizeof((struct sim_scenario *)0)->shares, 0, 0},
    {"ttft_hard", FLAG, AT(sim_scenario, ttft_hard), 0, 0, 0},
    {"prefill_ratio", REAL, AT(sim_scenario, prefill_ratio), 0, 0, 100},
};

static const struct field workload_fields[] = {
    {"load", REAL, AT(sim_workload, load), 0, 0, 20},
    {"rps", REAL, AT(sim_workload, rps), 0, 0, 1e5},
    {"burst", NUMBER, AT(sim_workload, burst), 0, 0, 1e6},
    {"burstiness", REAL, AT(sim_workload, burstiness), 0, 0.1, 10},
    {"swing", REAL, AT(sim_workload, swing), 0, 0, 0.95},
    {"swing_s", REAL, AT(sim_workload, swing_s), 0, 1, 1e6},
    {"prompt_median", REAL, AT(sim_workload, prompt_median), 0, 1, 1e6},
    {"prompt_sigma", REAL, AT(sim_workload, prompt_sigma), 0, 0, 4},
    {"prompt_max", NUMBER, AT(sim_workload, prompt_max), 0, 1, 1e7},
    {"output_median", REAL, AT(sim_workload, output_median), 0, 1, 1e6},
    {"output_sigma", REAL, AT(sim_workload, output_sigma), 0, 0, 4},
    {"output_max", NUMBER, AT(sim_workload, output_max), 0, 1, 1e7},
    {"default_max_tokens", NUMBER, AT(sim_workload, default_max_tokens), 0, 1, 1e7},
    {"names_max", REAL, AT(sim_workload, names_max), 0, 0, 1},
    {"turns", REAL, AT(sim_workload, turns), 0, 1, 100},
    {"think_s", REAL, AT(sim_workload, think_s), 0, 0, 1e5},
    {"tenants", NUMBER, AT(sim_workload, tenants), 0, 1, 10000},
    {"tenant_skew", REAL, AT(sim_workload, tenant_skew), 0, 0, 4},
    {"tools", REAL, AT(sim_workload, tools), 0, 0, 1},
    {"vision", REAL, AT(sim_workload, vision), 0, 0, 1},
    {"leave", REAL, AT(sim_workload, leave), 0, 0, 1},
    {"bad", REAL, AT(sim_workload, bad), 0, 0, 1},
    {"self_route", REAL, AT(sim_workload, self_route), 0, 0, 1},
    {"prefer_own", REAL, AT(sim_workload, prefer_own), 0, 0, 1},
};

static const struct field model_fields[] = {
    {"id", TEXT, AT(sim_model, id), SIM_ID_SIZE, 0, 0},
    {"size_gb", REAL, AT(sim_model, size_gb), 0, 0.01, 1000},
    {"speed", REAL, AT(sim_model, speed), 0, 0.001, 100},
    {"kv_bytes_per_token", REAL, AT(sim_model, kv_bytes_per_token), 0, 1, 1e8},
    {"weight", REAL, AT(sim_model, weight), 0, 0, 1e6},
    {"alternate_s", REAL, AT(sim_model, alternate_s), 0, 0, 1e6},
    {"alternate_odd", FLAG, AT(sim_model, alternate_odd), 0, 0, 0},
    {"context_tokens", NUMBER, AT(sim_model, context_tokens), 0, 16, 1e7},
    {"faults", REAL, AT(sim_model, faults), 0, 0, 1},
};

static const struct field group_fields[] = {
    {"chip", TEXT, AT(sim_group, chip), SIM_ID_SIZE, 0, 0},
    {"models_named", TEXT, AT(sim_group, models_named), sizeof((struct sim_group *)0)->models_named, 0, 0},
    {"count", NUMBER, AT(sim_group, count), 0, 1, SIM_MAX_BOXES},
    {"decode_tps", REAL, AT(sim_group, decode_tps), 0, 0.1, 5000},
    {"prefill_tps", REAL, AT(sim_group, prefill_tps), 0, 1, 1e5},
    {"spread", REAL, AT(sim_group, spread), 0, 0, 1},
    {"bandwidth_gbs", REAL, AT(sim_group, bandwidth_gbs), 0, 0, 2000},
    {"memory_gb", REAL, AT(sim_group, memory_gb), 0, 1, 1024},
    {"load_gbps", REAL, AT(sim_group, load_gbps), 0, 0.01, 100},
    {"concurrency", NUMBER, AT(sim_group, concurrency), 0, 1, 24},
    {"models", NUMBER, AT(sim_group, models), 0, 1, SIM_MAX_BOX_MODELS},
    {"warm", REAL, AT(sim_group, warm), 0, 0, 1},
    {"registers_rates", FLAG, AT(sim_group, registers_rates), 0, 0, 0},
    {"owned", FLAG, AT(sim_group, owned), 0, 0, 0},
    {"private", FLAG, AT(sim_group, private), 0, 0, 0},
    {"uncertified", FLAG, AT(sim_group, uncertified), 0, 0, 0},
    {"text_only", FLAG, AT(sim_group, text_only), 0, 0, 0},
    {"registers_prefill", FLAG, AT(sim_group, registers_prefill), 0, 0, 0},
};

static const struct field happening_fields[] = {
    {"kind", HAPPENING, AT(sim_happening, kind), 0, 0, 0},        {"as", HAPPENING, AT(sim_happening, as), 0, 0, 0},
    {"at_s", REAL, AT(sim_happening, at_s), 0, 0, 1e6},           {"for_s", REAL, AT(sim_happening, for_s), 0, 0, 1e6},
    {"share", REAL, AT(sim_happening, share), 0, 0, 1},           {"factor", REAL, AT(sim_happening, factor), 0, 0, 100},
    {"period_s", REAL, AT(sim_happening, period_s), 0, 1, 1e6},   {"jitter_s", REAL, AT(sim_happening, jitter_s), 0, 0, 1e5},
    {"model", TEXT, AT(sim_happening, model), SIM_ID_SIZE, 0, 0}, {"draw", NUMBER, AT(sim_happening, draw), 0, 0, 1e6},
};

static const struct field alias_fields[] = {
    {"id", TEXT, AT(sim_alias, id), SIM_ID_SIZE, 0, 0},
    {"previous", TEXT, AT(sim_alias, previous), SIM_ID_SIZE, 0, 0},
    {"desired", TEXT, AT(sim_alias, desired), SIM_ID_SIZE, 0, 0},
    {"at_s", REAL, AT(sim_alias, at_s), 0, 0, 1e6},
    {"canary", FLAG, AT(sim_alias, canary), 0, 0, 0},
};

static enum db_err wrong(const struct toml_value *value, const char *expected, struct error *error)
{
	return error_set(error, DB_E_INVALID, "line %d: %.*s must be %s", value->line, STR_ARG(value->key), expected);
}

static bool as_number(const struct toml_value *value, double *out)
{
	if (value->type == TOML_INT)
		*out = (double)value->as.integer;
	else if (value->type == TOML_FLOAT)
		*out = value->as.real;
	else
		return false;
	return true;
}

static enum db_err read_number(const struct toml_value *value, const struct field *field, char *into, struct error *error)
{
	double number;
	if (!as_number(value, &number) || (field->kind == NUMBER && value->type != TOML_INT))
		return wrong(value, field->kind == NUMBER ? "a whole number" : "a number", error);
	if (!(number >= field->min && number <= field->max))
		return error_set(error, DB_E_RANGE, "line %d: %s must be from %g to %g", value->line, field->key, field->min,
		                 field->max);
	if (field->kind == NUMBER)
		*(uint32_t *)(void *)into = (uint32_t)number;
	else
		*(double *)(void *)into = number;
	return DB_OK;
}

static enum db_err read_happening_kind(const struct toml_value *value, enum sim_happening_kind *into, struct error *error)
{
	for (int kind = 0; value->type == TOML_STRING && kind < SIM_HAPPENING_KINDS; kind++) {
		if (str_is(value->as.string, happening_names[kind])) {
			*into = (enum sim_happening_kind)kind;
			return DB_OK;
		}
	}
	struct buf known;
	buf_init(&known, 512);
	for (int kind = 0; kind < SIM_HAPPENING_KINDS; kind++)
		(void)buf_printf(&known, "%s%s",
		                 kind == 0                        ? ""
		                 : kind + 1 < SIM_HAPPENING_KINDS ? ", "
		                                                  : " or ",
		                 happening_names[kind]);
	(void)buf_append_byte(&known, 0);
	enum db_err err = wrong(value, known.failed ? "a kind of happening" : (const char *)known.at, error);
	buf_free(&known);
	return err;
}

static enum db_err read_field(const struct toml_value *value, const struct field *field, char *into, struct error *error)
{
	switch (field->kind) {
	case FLAG:
		if (value->type != TOML_BOOL)
			return wrong(value, "true or false", error);
		*(bool *)into = value->as.boolean;
		return DB_OK;
	case TEXT:
		if (value->type != TOML_STRING || !str_copy(value->as.string, into, field->size))
			return wrong(value, "a short string", error);
		return DB_OK;
	case HAPPENING:
		return read_happening_kind(value, (enum sim_happening_kind *)(void *)into, error);
	default:
		return read_number(value, field, into, error);
	}
}

static enum db_err read_table(const struct toml_value *table, const struct field *fields, size_t count, void *into,
                              struct error *error)
{
	if (table->type != TOML_TABLE)
		return wrong(table, "a table", error);
	for (const struct toml_value *value = table->first; value; value = value->next) {
		const struct field *found = NULL;
		for (size_t i = 0; i < count && !found; i++)
			found = str_is(value->key, fields[i].key) ? &fields[i] : NULL;
		if (!found)
			return error_set(error, DB_E_INVALID, "line %d: there is no key %.*s here", value->line, STR_ARG(value->key));
		enum db_err err = read_field(value, found, (char *)into + found->offset, error);
		if (err)
			return err;
	}
	return DB_OK;
}

/* --- defaults --- */

static const struct sim_scenario default_scenario = {
    .name = "scenario",
    .seed = 1,
    .seconds = 300,
    .warmup_s = 0,
    .heartbeat_s = 5,
    .network_ms = 20,
    .network_sigma = 0.4,
    .batch_slowdown = 0.27,
    .prefill_share = 0.5,
    .cached_prompts = 16,
    .ttft_ms = 5000,
    .ttft_token_ms = 1,
    .decode_tps = 10,
    .deadline_s = 120,
    .hedge = true,
    .queue_s = 30,
    .workload = {.burstiness = 1,
                 .swing_s = 600,
                 .prompt_median = 1020,
                 .prompt_sigma = 0.5,
                 .prompt_max = 32000,
                 .output_median = 129,
                 .output_sigma = 1,
                 .output_max = 8192,
                 .default_max_tokens = 8192,
                 .turns = 1,
                 .think_s = 20,
                 .tenants = 1},
};
static const struct sim_model default_model = {
    .size_gb = 5, .speed = 1, .kv_bytes_per_token = 131072, .weight = 1, .context_tokens = 131072};
static const struct sim_group default_group = {.chip = "M2 Max",
                                               .count = 1,
                                               .decode_tps = 60,
                                               .prefill_tps = 700,
                                               .bandwidth_gbs = 400,
                                               .memory_gb = 64,
                                               .load_gbps = 1,
                                               .concurrency = 24,
                                               .models = 1,
                                               .warm = 1,
                                               .registers_prefill = true};
static const struct sim_happening default_happening = {.as = SIM_STALL, .share = 1, .factor = 0.1, .period_s = 20};

static const struct sim_alias default_alias = {.at_s = 0};

/* --- lists --- */

struct list_of {
	const char *key;
	const struct field *fields;
	size_t field_count;
	const void *initial;
	size_t size, max;
	void *into;
	uint32_t *count;
};

static enum db_err read_list(const struct toml_value *list, const struct list_of *kind, struct error *error)
{
	if (list->type != TOML_ARRAY)
		return wrong(list, "an array of tables", error);
	for (const struct toml_value *item = list->first; item; item = item->next) {
		if (*kind->count == kind->max)
			return error_set(error, DB_E_LIMIT, "line %d: there are more than %zu of them", item->line, kind->max);
		char *into = (char *)kind->into + *kind->count * kind->size;
		memcpy(into, kind->initial, kind->size);
		enum db_err err = read_table(item, kind->fields, kind->field_count, into, error);
		if (err)
			return err;
		++*kind->count;
	}
	return DB_OK;
}

/* --- what fits together --- */

uint32_t sim_scenario_boxes(const struct sim_scenario *scenario)
{
	uint32_t boxes = 0;
	for (uint32_t i = 0; i < scenario->group_count; i++)
		boxes += scenario->groups[i].count;
	return boxes;
}

uint16_t sim_scenario_model(const struct sim_scenario *scenario, struct str id)
{
	uint16_t i = 0;
	while (i < scenario->model_count && !str_is(id, scenario->models[i].id))
		i++;
	return i;
}

static bool known_model(const struct sim_scenario *scenario, struct str id)
{
	return sim_scenario_model(scenario, id) < scenario->model_count;
}

static enum db_err check_shares(const struct sim_scenario *scenario, struct error *error)
{
	struct str rest = str_of(scenario->shares), text;
	struct share share;
	while (rest.len) {
		rest = str_cut(rest, ',', &text);
		if (share_read(str_trim(text), &share))
			return error_set(error, DB_E_INVALID, "shares: '%.*s' is no share of an account, as tenant-0=4 or tenant-1=batch",
			                 STR_ARG(text));
	}
	return DB_OK;
}

static enum db_err check_names(const struct sim_scenario *scenario, struct error *error)
{
	if (check_shares(scenario, error))
		return DB_E_INVALID;
	for (uint32_t i = 0; i < scenario->alias_count; i++) {
		const struct sim_alias *alias = &scenario->aliases[i];
		if (!alias->id[0] || known_model(scenario, str_of(alias->id)))
			return error_set(error, DB_E_INVALID, "every [[alias]] needs an id that is no model's");
		if (!known_model(scenario, str_of(alias->previous)) || !known_model(scenario, str_of(alias->desired)) ||
		    str_is(str_of(alias->desired), alias->previous))
			return error_set(error, DB_E_INVALID, "alias '%s' needs two models, previous and desired", alias->id);
	}
	for (uint32_t i = 0; i < scenario->happening_count; i++) {
		const struct sim_happening *happening = &scenario->happenings[i];
		bool may_wander = happening->as != SIM_WANDER && happening->as != SIM_FLAP && happening->as != SIM_SICK &&
		                  happening->as != SIM_RATE && happening->as != SIM_DRAIN && happening->as != SIM_UPDATE;
		if (!may_wander)
			return error_set(error, DB_E_INVALID, "%s cannot wander", sim_happening_name(happening->as));
		if ((happening->model[0] || happening->kind == SIM_UPDATE) && !known_model(scenario, str_of(happening->model)))
			return error_set(error, DB_E_INVALID, "no model is called '%s'", happening->model);
	}
	return DB_OK;
}

static enum db_err check_group(const struct sim_scenario *scenario, const struct sim_group *group, struct error *error)
{
	struct str rest = str_of(group->models_named), id;
	uint32_t named = 0;
	while (rest.len) {
		rest = str_cut(rest, ',', &id);
		if (!known_model(scenario, str_trim(id)))
			return error_set(error, DB_E_INVALID, "no model is called '%.*s'", STR_ARG(str_trim(id)));
		named++;
	}
	if (named > SIM_MAX_BOX_MODELS)
		return error_set(error, DB_E_LIMIT, "a machine offers at most %d models", SIM_MAX_BOX_MODELS);
	return DB_OK;
}

static enum db_err check(const struct sim_scenario *scenario, struct error *error)
{
	double weights = 0;
	uint64_t boxes = 0;
	if (!scenario->model_count || !scenario->group_count)
		return error_set(error, DB_E_INVALID, "a scenario needs at least one [[model]] and one [[group]]");
	for (uint32_t i = 0; i < scenario->model_count; i++) {
		weights += scenario->models[i].weight;
		if (!scenario->models[i].id[0])
			return error_set(error, DB_E_INVALID, "every [[model]] needs an id");
	}
	if (!(weights > 0))
		return error_set(error, DB_E_INVALID, "some model must have a weight above 0");
	for (uint32_t i = 0; i < scenario->group_count; i++) {
		boxes += scenario->groups[i].count;
		enum db_err err = check_group(scenario, &scenario->groups[i], error);
		if (err)
			return err;
	}
	if (boxes > SIM_MAX_BOXES)
		return error_set(error, DB_E_LIMIT, "a fleet has at most %d machines", SIM_MAX_BOXES);
	if (!(scenario->workload.load > 0) && !(scenario->workload.rps > 0) && !scenario->workload.burst)
		return error_set(error, DB_E_INVALID, "[workload] needs load, rps or burst");
	if (scenario->warmup_s >= scenario->seconds)
		return error_set(error, DB_E_INVALID, "warmup_s must be shorter than seconds");
	return check_names(scenario, error);
}

static enum db_err read_root(const struct toml_value *root, struct sim_scenario *out, struct error *error)
{
#define LIST(name, fields, initial, most, into, count)                                                                         \
	{                                                                                                                          \
		name, fields, COUNT(fields), &(initial), sizeof(initial), most, into, count                                            \
	}
	const struct list_of lists[] = {
	    LIST("model", model_fields, default_model, SIM_MAX_MODELS, out->models, &out->model_count),
	    LIST("group", group_fields, default_group, SIM_MAX_GROUPS, out->groups, &out->group_count),
	    LIST("happening", happening_fields, default_happening, SIM_MAX_HAPPENINGS, out->happenings, &out->happening_count),
	    LIST("alias", alias_fields, default_alias, SIM_MAX_ALIASES, out->aliases, &out->alias_count),
	};
	const struct {
		const char *key;
		const struct field *fields;
		size_t count;
		void *into;
	} tables[] = {{"fleet", fleet_fields, COUNT(fleet_fields), out},
	              {"goal", goal_fields, COUNT(goal_fields), out},
	              {"dispatch", dispatch_fields, COUNT(dispatch_fields), out},
	              {"workload", workload_fields, COUNT(workload_fields), &out->workload}};
	for (const struct toml_value *value = root->first; value; value = value->next) {
		enum db_err err = DB_E_NOT_FOUND;
		for (size_t i = 0; i < COUNT(lists); i++)
			if (str_is(value->key, lists[i].key))
				err = read_list(value, &lists[i], error);
		for (size_t i = 0; i < COUNT(tables); i++)
			if (str_is(value->key, tables[i].key))
				err = read_table(value, tables[i].fields, tables[i].count, tables[i].into, error);
		if (str_is(value->key, "seed")) {
			if (value->type != TOML_INT || value->as.integer < 0)
				return wrong(value, "a whole number", error);
			out->seed = (uint64_t)value->as.integer;
			err = DB_OK;
		}
		for (size_t i = 0; i < COUNT(top_fields); i++)
			if (str_is(value->key, top_fields[i].key))
				err = read_field(value, &top_fields[i], (char *)out + top_fields[i].offset, error);
		if (err == DB_E_NOT_FOUND)
			return error_set(error, DB_E_INVALID, "line %d: there is no key %.*s here", value->line, STR_ARG(value->key));
		if (err)
			return err;
	}
	return check(out, error);
}

enum db_err sim_scenario_parse(struct str text, struct sim_scenario *out, struct error *error)
{
	struct arena *arena = arena_new(16 * MAX_FILE_BYTES);
	if (!arena)
		return error_set(error, DB_E_NOMEM, "out of memory");
	*out = default_scenario;
	const struct toml_value *root = toml_parse(text, arena, error);
	enum db_err err = root ? read_root(root, out, error) : DB_E_INVALID;
	arena_free(arena);
	return err;
}

enum db_err sim_scenario_load(const char *path, struct sim_scenario *out, struct error *error)
{
	struct buf text;
	char piece[4096];
	FILE *file = fopen(path, "r");
	if (!file)
		return error_set(error, DB_E_NOT_FOUND, "%s cannot be read", path);
	buf_init(&text, MAX_FILE_BYTES);
	for (size_t n; (n = fread(piece, 1, sizeof piece, file));)
		(void)buf_append(&text, piece, n);
	fclose(file);
	struct error inner;
	enum db_err err = text.failed ? error_set(&inner, DB_E_LIMIT, "the file is larger than %u bytes", MAX_FILE_BYTES)
	                              : sim_scenario_parse(buf_str(&text), out, &inner);
	if (err)
		error_set(error, err, "%s: %.200s", path, inner.text);
	buf_free(&text);
	return err;
}
