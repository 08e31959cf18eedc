#include "wire/lifecycle.h"
#include "wire/codec.h"

void wire_read_prefetch_model(struct wire_reader *r, const json_val *root, struct wire_prefetch_model *out)
{
	out->model_id = wire_require_str(r, root, "model_id");
	out->priority = wire_read_int(r, root, "priority", INT32_MAX);
}

void wire_write_prefetch_model(struct json_writer *w, const struct wire_prefetch_model *in)
{
	json_put_str(w, "model_id", in->model_id);
	wire_put_int(w, "priority", in->priority);
}

static void read_desired(struct wire_reader *r, const json_val *model, struct wire_desired_model *out)
{
	out->model_name = wire_require_str(r, model, "model_name");
	out->desired_build = wire_require_str(r, model, "desired_build");
	out->previous_build = wire_read_str(r, model, "previous_build");
	out->weight_hash = wire_read_str(r, model, "weight_hash");
}

/* A missing list must not read as an empty one: the provider would call every build stale. */
void wire_read_desired_models(struct wire_reader *r, const json_val *root, struct wire_desired_models *out)
{
	wire_require(r, root, "models");
	void *items;
	struct json_iter it = wire_read_array(r, root, "models", WIRE_MAX_DESIRED, sizeof(struct wire_desired_model), &items);
	out->models = items;
	for (json_val *model; (model = json_next(&it, NULL));) {
		if (wire_is_object(r, model, "models"))
			read_desired(r, model, &out->models[out->count++]);
	}
}

void wire_write_desired_models(struct json_writer *w, const struct wire_desired_models *in)
{
	json_key(w, "models");
	json_begin_array(w);
	for (size_t i = 0; i < in->count; i++) {
		json_begin_object(w);
		json_put_str(w, "model_name", in->models[i].model_name);
		json_put_str(w, "desired_build", in->models[i].desired_build);
		wire_put_str(w, "previous_build", in->models[i].previous_build);
		wire_put_str(w, "weight_hash", in->models[i].weight_hash);
		json_end_object(w);
	}
	json_end_array(w);
}

static const char *const load_names[] = {
    [WIRE_LOAD_UNKNOWN] = "",
    [WIRE_LOAD_STARTED] = "started",
    [WIRE_LOAD_SUCCEEDED] = "succeeded",
    [WIRE_LOAD_FAILED] = "failed",
};

void wire_read_load_status(struct wire_reader *r, const json_val *root, struct wire_load_model_status *out)
{
	out->model_id = wire_read_str(r, root, "model_id");
	out->status = (enum wire_load_state)WIRE_WORD(wire_read_str(r, root, "status"), load_names, WIRE_LOAD_UNKNOWN);
	out->error = wire_read_str(r, root, "error");
}

void wire_write_load_status(struct json_writer *w, const struct wire_load_model_status *in)
{
	json_put_str(w, "model_id", in->model_id);
	json_put_cstr(w, "status", load_names[in->status]);
	wire_put_str(w, "error", in->error);
}

static const char *const prefetch_names[] = {
    [WIRE_PREFETCH_UNKNOWN] = "",
    [WIRE_PREFETCH_PENDING] = "pending",
    [WIRE_PREFETCH_STARTED] = "started",
    [WIRE_PREFETCH_DOWNLOADING] = "downloading",
    [WIRE_PREFETCH_VERIFYING] = "verifying",
    [WIRE_PREFETCH_LOADING] = "loading",
    [WIRE_PREFETCH_VERIFIED] = "verified",
    [WIRE_PREFETCH_FAILED] = "failed",
};

const char *wire_prefetch_name(enum wire_prefetch_state state)
{
	return prefetch_names[state];
}

void wire_read_prefetch_status(struct wire_reader *r, const json_val *root, struct wire_prefetch_model_status *out)
{
	out->model_id = wire_read_str(r, root, "model_id");
	out->status = (enum wire_prefetch_state)WIRE_WORD(wire_read_str(r, root, "status"), prefetch_names, WIRE_PREFETCH_UNKNOWN);
	out->bytes_done = wire_read_int(r, root, "bytes_done", INT64_MAX);
	out->bytes_total = wire_read_int(r, root, "bytes_total", INT64_MAX);
	out->error = wire_read_str(r, root, "error");
}

void wire_write_prefetch_status(struct json_writer *w, const struct wire_prefetch_model_status *in)
{
	json_put_str(w, "model_id", in->model_id);
	json_put_cstr(w, "status", prefetch_names[in->status]);
	wire_put_int(w, "bytes_done", in->bytes_done);
	wire_put_int(w, "bytes_total", in->bytes_total);
	wire_put_str(w, "error", in->error);
}
