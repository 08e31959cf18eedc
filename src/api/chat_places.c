#include "api/chat_places.h"

#include "api/chat_internal.h"
#include "wire/region.h"

/* One of the two lists. */
struct list_of {
	struct str **at;
	size_t *count, most;
	bool regions;
};

static const char *const serial_names[] = {"provider_serial", "provider_serials"};
static const char *const region_names[] = {"provider_region", "provider_regions"};

static bool no_memory(struct api_error *error)
{
	return api_fail(error, 503, "service_unavailable", NULL, NULL, "The request needs more memory than there is.");
}

static bool put(struct list_of list, struct str text, const char *name, struct api_error *error)
{
	for (size_t i = 0; i < *list.count; i++)
		if (str_eq((*list.at)[i], text))
			return true;
	if (*list.count == list.most)
		return chat_refuse(error, name, "%s: at most %zu can be given.", name, list.most);
	(*list.at)[(*list.count)++] = text;
	return true;
}

static bool put_region(struct list_of list, struct str text, struct arena *arena, const char *name, struct api_error *error)
{
	char region[REGION_SIZE];
	if (region_read(text, region))
		return chat_refuse(error, name, "%s must hold countries or parts of them as ISO 3166 names them: DE, US-CA.", name);
	struct str kept = arena_str(arena, str_of(region));
	return kept.at ? put(list, kept, name, error) : no_memory(error);
}

static bool add(struct list_of list, const json_val *value, struct arena *arena, const char *name, struct api_error *error)
{
	struct str text;
	if (!json_as_str(value, &text))
		return chat_refuse(error, name, "%s must be a string or an array of strings.", name);
	text = str_trim(text);
	if (text.len == 0)
		return true;
	return list.regions ? put_region(list, text, arena, name, error) : put(list, text, name, error);
}

static bool make(struct list_of list, struct arena *arena, struct api_error *error)
{
	if (!*list.at)
		*list.at = arena_alloc(arena, list.most * sizeof **list.at);
	return *list.at || no_memory(error);
}

static bool parse(const json_val *root, const char *const names[2], struct list_of list, struct arena *arena,
                  struct api_error *error)
{
	const char *last = NULL;
	for (size_t i = 0; i < 2; i++) {
		const json_val *value = json_get(root, names[i]);
		if (!value)
			continue;
		last = names[i];
		if (!make(list, arena, error))
			return false;
		if (json_type(value) != JSON_ARRAY) {
			if (!add(list, value, arena, names[i], error))
				return false;
			continue;
		}
		struct json_iter iter = json_iter(value);
		for (json_val *member; (member = json_next(&iter, NULL));)
			if (!add(list, member, arena, names[i], error))
				return false;
	}
	if (last && *list.count == 0)
		return chat_refuse(error, last, "%s names no %s.", last, list.regions ? "region" : "provider");
	return true;
}

static struct list_of serials_of(struct chat_places *places)
{
	return (struct list_of){&places->serials, &places->serial_count, CHAT_PLACES_SERIALS, false};
}

static struct list_of regions_of(struct chat_places *places)
{
	return (struct list_of){&places->regions, &places->region_count, CHAT_PLACES_REGIONS, true};
}

bool chat_places_parse(const json_val *root, struct arena *arena, struct chat_places *out, struct api_error *error)
{
	*out = (struct chat_places){0};
	return parse(root, serial_names, serials_of(out), arena, error) && parse(root, region_names, regions_of(out), arena, error);
}

bool chat_places_is_member(struct str quoted_key)
{
	for (size_t i = 0; i < 2; i++)
		if (json_raw_key_is(quoted_key, serial_names[i]) || json_raw_key_is(quoted_key, region_names[i]))
			return true;
	return false;
}

bool chat_places_regions(struct str text, struct arena *arena, const char *param, struct chat_places *out,
                         struct api_error *error)
{
	struct str name;
	*out = (struct chat_places){0};
	if (str_trim(text).len == 0)
		return true;
	if (!make(regions_of(out), arena, error))
		return false;
	while (text.len > 0) {
		text = str_cut(text, ',', &name);
		name = str_trim(name);
		if (name.len > 0 && !put_region(regions_of(out), name, arena, param, error))
			return false;
	}
	return out->region_count > 0 || chat_refuse(error, param, "%s names no region.", param);
}

static bool is_in(struct str part, struct str whole)
{
	return str_starts(part, whole) && (part.len == whole.len || part.at[whole.len] == '-');
}

bool chat_places_narrow(struct chat_places *places, const struct chat_places *by, struct arena *arena, struct api_error *error)
{
	struct chat_places both = {0};
	if (!by->regions)
		return true;
	if (!places->regions) {
		places->regions = by->regions;
		places->region_count = by->region_count;
		return true;
	}
	if (!make(regions_of(&both), arena, error))
		return false;
	for (size_t i = 0; i < places->region_count; i++)
		for (size_t j = 0; j < by->region_count; j++) {
			struct str a = places->regions[i], b = by->regions[j];
			struct str narrow = is_in(a, b) ? a : is_in(b, a) ? b : STR_NONE;
			if (narrow.len > 0 && !put(regions_of(&both), narrow, region_names[1], error))
				return false;
		}
	if (both.region_count == 0)
		return chat_refuse(error, region_names[1], "No region satisfies both the body and the header.");
	places->regions = both.regions;
	places->region_count = both.region_count;
	return true;
}
