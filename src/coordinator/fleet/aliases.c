/* Public names of models, as the fleet uses them: which build a request gets, what providers are told to keep (registry 3). */
#include <stdlib.h>

#include "coordinator/fleet/fleet_internal.h"
#include "core/version.h"

struct alias_table *fleet_aliases(const struct fleet *fleet)
{
	return fleet->aliases;
}

enum alias_choice fleet_resolve(struct fleet *fleet, const struct route_request *request, struct str *build)
{
	return alias_resolve(fleet->aliases, request, net_now_us(fleet->loop), build);
}

bool fleet_alias_note(struct fleet *fleet, const struct alias_outcome *outcome)
{
	bool moved = alias_note(fleet->aliases, outcome, net_now_us(fleet->loop));
	if (moved && fleet->options.on_alias_moved)
		fleet->options.on_alias_moved(outcome->alias, fleet->options.alias_user);
	return moved;
}

void fleet_alias_health(const struct fleet *fleet, struct str id, struct alias_health *desired, struct alias_health *previous)
{
	alias_health(fleet->aliases, id, net_now_us(fleet->loop), desired, previous);
}

/* --- what providers are told --- */

static bool has(const struct session *session, const char *build)
{
	return route_node_advertises(session->fleet->routes, session->node, str_of(build));
}

/* The provider has some build of the alias, if only under its name: the others, and which files are meant, are its business. */
static bool concerns(const struct alias *alias, const struct session *session)
{
	bool any = alias->active && (has(session, alias->desired) || has(session, alias->previous));
	for (size_t i = 0; alias->active && i < alias->retired_count && !any; i++)
		any = has(session, alias->retired[i]);
	return any;
}

void session_send_desired(struct session *session)
{
	struct wire_message message = {.type = WIRE_DESIRED_MODELS};
	const struct alias *aliases[ALIAS_MAX];
	struct wire_desired_models *desired = &message.as.desired_models;
	if (version_compare(session_text(session, TEXT_VERSION), STR(FLEET_DESIRED_MODELS_AT)) < 0 || !session->node)
		return;
	size_t count = alias_list(session->fleet->aliases, aliases, ALIAS_MAX);
	desired->models = calloc(count + 1, sizeof *desired->models);
	if (!desired->models)
		return; /* it hears of the next change */
	for (size_t i = 0; i < count && i < ALIAS_MAX; i++)
		if (concerns(aliases[i], session))
			desired->models[desired->count++] = (struct wire_desired_model){.model_name = str_of(aliases[i]->id),
			                                                                .desired_build = str_of(aliases[i]->desired),
			                                                                .previous_build = str_of(aliases[i]->previous),
			                                                                .weight_hash = str_of(aliases[i]->weight_hash)};
	session_builds_told(session);
	(void)session_send(session, &message);
	free(desired->models);
}

/* An operator's change: every provider that understands hears of it. */
static void push_all(struct fleet *fleet)
{
	LIST_EACH (link, &fleet->sessions) {
		struct session *session = LIST_OF(link, struct session, link);
		if (session->settled && !session->closing)
			session_send_desired(session);
	}
}

enum db_err fleet_alias_put(struct fleet *fleet, const struct alias_change *change, struct error *error)
{
	enum db_err err = alias_put(fleet->aliases, change, net_now_us(fleet->loop), error);
	if (!err)
		push_all(fleet);
	return err;
}

enum db_err fleet_alias_remove(struct fleet *fleet, struct str id)
{
	enum db_err err = alias_remove(fleet->aliases, id);
	if (!err)
		push_all(fleet);
	return err;
}
