/* What the coordinator wants loaded or downloaded (protocol-and-trust 11.3). */
#include "provider/node/node_internal.h"

#include <stdlib.h>

/* A load_model that is under way. */
struct load_command {
	struct list_link link; /* in node->loads */
	struct node *node;
	struct residency_use use;
	char model[RESIDENCY_MODEL_SIZE];
};

static void say_load(struct node *node, struct str model, enum wire_load_state state, const char *error)
{
	struct wire_message message = {.type = WIRE_LOAD_MODEL_STATUS,
	                               .as.load_model_status = {.model_id = model, .status = state, .error = str_of(error)}};
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

void node_prefetch_model(struct node *node, const struct wire_prefetch_model *message)
{
	bool here = residency_find(node->options.residency, message->model_id) != NULL;
	struct wire_message reply = {
	    .type = WIRE_PREFETCH_MODEL_STATUS,
	    .as.prefetch_model_status = {.model_id = message->model_id,
	                                 .status = here ? WIRE_PREFETCH_VERIFIED : WIRE_PREFETCH_FAILED,
	                                 .error = here ? STR_NONE : STR("this provider does not download models by itself")}};
	node_send(node, &reply);
}
