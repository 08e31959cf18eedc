/* Which files a build's name stands for (registry 3): nodes say the hash of theirs, and the operator may pin one. Few different
 * ones are said of a model, so each is kept once, and a pin that changes is compared with those, whatever the number of nodes:
 * it holds from the next request on. The order of a node's entries follows with its next heartbeat. */
#include <stdlib.h>

#include "coordinator/routing/alias.h"
#include "coordinator/routing/routing_internal.h"

#define FILES_MAX UINT8_MAX /* different ones of a model; more count as not said */

static bool is_wanted(const struct route_model *model, const struct route_files *files)
{
	return str_eq_nocase(str_of(files->hash), str_of(model->pin));
}

void route_files_pinned(const struct route_fleet *fleet, struct route_model *model)
{
	const char *pin = fleet->aliases ? alias_pin(fleet->aliases, (struct str){model->id, model->id_len}) : NULL;
	model->pinned = pin && str_copy(str_of(pin), model->pin, sizeof model->pin);
	for (uint32_t i = 0; i < model->file_count; i++)
		model->files[i].wanted = is_wanted(model, &model->files[i]);
}

void route_files_pin(struct route_fleet *fleet, struct str build)
{
	struct route_model *model = route_model_find(fleet, build);
	if (model)
		route_files_pinned(fleet, model);
}

/* The place of the hash, from 1; 0: there is none. */
static uint8_t find(const struct route_model *model, struct str hash)
{
	for (uint32_t i = 0; i < model->file_count; i++)
		if (model->files[i].entries && str_eq_nocase(hash, str_of(model->files[i].hash)))
			return (uint8_t)(i + 1);
	return 0;
}

static uint8_t add(struct route_model *model, struct str hash)
{
	uint32_t at = 0;
	while (at < model->file_count && model->files[at].entries)
		at++;
	if (at == FILES_MAX)
		return 0;
	if (at == model->file_count) {
		struct route_files *grown = realloc(model->files, (at + 1) * sizeof *grown);
		if (!grown)
			return 0;
		model->files = grown;
		model->file_count++;
	}
	model->files[at] = (struct route_files){.entries = 0};
	(void)str_copy(hash, model->files[at].hash, sizeof model->files[at].hash);
	model->files[at].wanted = is_wanted(model, &model->files[at]);
	return (uint8_t)(at + 1);
}

void route_files_forget(struct route_entry *entry)
{
	if (entry->files)
		entry->model->files[entry->files - 1].entries--;
	entry->files = 0;
}

void route_files_say(struct route_entry *entry, struct str hash)
{
	uint8_t files = 0;
	if (hash.len && hash.len < ROUTE_FILES_SIZE && !(files = find(entry->model, hash)))
		files = add(entry->model, hash);
	if (files)
		entry->model->files[files - 1].entries++;
	route_files_forget(entry);
	entry->files = files;
}
