/* What the coordinator wants loaded or downloaded (protocol-and-trust 11.3). */
#include "provider/node/node_internal.h"

#include <stdlib.h>

#include "core/log.h"

/* A load_model that is under way. */
struct load_command {
	struct list_link link; /* in node->loads */
	struct node *node;
	struct residency_use use;
	char model[RESIDENCY_MODEL_SIZE];
};

static void say_load(struct node *node, struct str model, enum wire_load_state state, const char *error)
{
	char text[NODE_TEXT_SIZE];
	struct str why = str_of(error ? node_public_text(node, error, text) : NULL);
	struct wire_message message = {.type = WIRE_LOAD_MODEL_STATUS,
	                               .as.load_model_status = {.model_id = model, .status = state, .error = why}};
	node_send(node, &message);
}

static void command_free(struct load_command *command)
{
	residency_release(&command->use); /* it stays loaded until its place or memory is needed */
	list_remove(&command->node->loads, &command->link);
	free(command);
}

static void on_ready(struct residency_use *use, struct engine *engine, int status, const char *why)
{
	struct load_command *command = LIST_OF(use, struct load_command, use);
	(void)engine;
	say_load(command->node, str_of(command->model), status ? WIRE_LOAD_FAILED : WIRE_LOAD_SUCCEEDED, why);
	command_free(command);
}

static bool is_under_way(const struct node *node, struct str model)
{
	LIST_EACH (link, &node->loads)
		if (str_is(model, LIST_OF(link, struct load_command, link)->model))
			return true;
	return false;
}

static void load(struct node *node, struct str model)
{
	struct engine *engine;
	struct error error = {0};
	struct load_command *command = calloc(1, sizeof *command);
	if (!command) {
		say_load(node, model, WIRE_LOAD_FAILED, "insufficient memory");
		return;
	}
	command->node = node;
	command->use.ready = on_ready;
	str_copy(model, command->model, sizeof command->model);
	list_push_back(&node->loads, &command->link);
	int status = residency_acquire(node->options.residency, model, &command->use, &engine, &error);
	if (status == RESIDENCY_LATER) {
		say_load(node, model, WIRE_LOAD_STARTED, NULL);
		return;
	}
	say_load(node, model, status ? WIRE_LOAD_FAILED : WIRE_LOAD_SUCCEEDED, status ? error.text : NULL);
	command_free(command);
}

void node_load_model(struct node *node, const struct wire_load_model *message)
{
	if (!residency_find(node->options.residency, message->model_id))
		say_load(node, message->model_id, WIRE_LOAD_FAILED, "model not found on this provider");
	else if (node->draining)
		say_load(node, message->model_id, WIRE_LOAD_FAILED, "provider draining for update");
	else if (!is_under_way(node, message->model_id))
		load(node, message->model_id);
}

void node_loads_forget(struct node *node)
{
	LIST_EACH_SAFE (link, next, &node->loads)
		command_free(LIST_OF(link, struct load_command, link));
}

/* --- builds that are wanted here --- */

static enum wire_prefetch_state told_as(const struct build_view *view)
{
	static const enum wire_prefetch_state states[] = {
	    [BUILD_PENDING] = WIRE_PREFETCH_PENDING,     [BUILD_DOWNLOADING] = WIRE_PREFETCH_DOWNLOADING,
	    [BUILD_VERIFYING] = WIRE_PREFETCH_VERIFYING, [BUILD_LOADING] = WIRE_PREFETCH_LOADING,
	    [BUILD_READY] = WIRE_PREFETCH_VERIFIED,      [BUILD_FAILED] = WIRE_PREFETCH_FAILED,
	};
	return states[view->state];
}

static void on_build(const struct build_view *view, void *user)
{
	struct node *node = user;
	char why[NODE_TEXT_SIZE];
	struct wire_message message = {.type = WIRE_PREFETCH_MODEL_STATUS,
	                               .as.prefetch_model_status = {.model_id = view->id,
	                                                            .status = told_as(view),
	                                                            .bytes_done = (int64_t)view->done_bytes,
	                                                            .bytes_total = (int64_t)view->total_bytes,
	                                                            .error = str_of(node_public_text(node, view->why, why))}};
	(void)node_send(node, &message); /* without a session: the next one asks */
}

enum db_err node_builds_start(struct node *node, struct error *error)
{
	struct builds_options options = node->options.builds ? *node->options.builds : (struct builds_options){.source = NULL};
	options.residency = node->options.residency;
	options.report = on_build;
	options.user = node;
	node->builds = builds_new(node->loop, &options, error);
	return node->builds ? DB_OK : DB_E_NOMEM;
}

size_t node_builds(const struct node *node, struct build_view *out, size_t max)
{
	return builds_list(node->builds, out, max);
}

void node_prefetch_model(struct node *node, const struct wire_prefetch_model *message)
{
	if (!node->draining)
		builds_prefetch(node->builds, message->model_id, message->priority);
}

/* Aliases may share a build. */
static bool is_listed(const struct build_wanted *list, size_t count, struct str id)
{
	for (size_t i = 0; i < count; i++)
		if (str_eq(list[i].id, id))
			return true;
	return false;
}

void node_desired_models(struct node *node, const struct wire_desired_models *message)
{
	struct build_wanted list[BUILDS_MAX];
	size_t count = 0;
	for (size_t i = 0; i < message->count && count < BUILDS_MAX; i++) {
		const struct wire_desired_model *one = &message->models[i];
		if (!is_listed(list, count, one->desired_build))
			list[count++] = (struct build_wanted){one->desired_build, one->weight_hash};
	}
	log_info("node.desired_models", "count=%zu", count);
	if (!node->draining)
		builds_want(node->builds, list, count);
}
