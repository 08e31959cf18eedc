/* Nodes that have something in common: an owner, a region; and the words that many of them say. */
#include <stdlib.h>

#include "coordinator/routing/routing_internal.h"

uint16_t route_name_find(const struct route_names *names, struct str text)
{
	for (size_t i = 0; text.len && i < names->count; i++)
		if (str_is(text, names->at[i]))
			return (uint16_t)(i + 1);
	return 0;
}

uint16_t route_name_get(struct route_names *names, struct str text, size_t max)
{
	uint16_t known = route_name_find(names, text);
	if (known || !text.len || names->count == max)
		return known;
	char **grown = realloc(names->at, (names->count + 1) * sizeof *grown);
	if (!grown)
		return 0;
	names->at = grown;
	names->at[names->count] = strndup(text.at, text.len);
	return names->at[names->count] ? (uint16_t)++names->count : 0;
}

struct str route_name_at(const struct route_names *names, uint16_t name)
{
	return name ? str_of(names->at[name - 1]) : STR_NONE;
}

void route_names_free(struct route_names *names)
{
	for (size_t i = 0; i < names->count; i++)
		free(names->at[i]);
	free(names->at);
}

struct str route_group_name(const struct route_group *group)
{
	return group ? (struct str){group->name, group->name_len} : STR_NONE;
}

static struct route_group *group_get(struct map *groups, struct str name)
{
	struct route_group *group = map_get(groups, name);
	if (group)
		return group;
	group = calloc(1, sizeof *group + name.len);
	if (!group)
		return NULL;
	memcpy(group->name, name.at, name.len);
	group->name_len = name.len;
	list_init(&group->nodes);
	if (map_put(groups, route_group_name(group), group, NULL)) {
		free(group);
		return NULL;
	}
	return group;
}

static void leave(struct map *groups, struct route_group *group, struct list_link *link)
{
	list_remove(&group->nodes, link);
	if (group->nodes.count)
		return;
	map_remove(groups, route_group_name(group));
	free(group);
}

enum db_err route_group_move(struct map *groups, struct route_group **group, struct list_link *link, struct str name)
{
	if (*group && str_eq(name, route_group_name(*group)))
		return DB_OK;
	struct route_group *next = name.len ? group_get(groups, name) : NULL;
	if (*group)
		leave(groups, *group, link);
	*group = next;
	if (next)
		list_push_back(&next->nodes, link);
	return next || !name.len ? DB_OK : DB_E_NOMEM;
}

bool route_is_own(const struct route_node *node, const struct route_request *request)
{
	return request->caller_account.len && str_eq(request->caller_account, route_group_name(node->owner));
}
