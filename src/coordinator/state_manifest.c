#include "coordinator/state_manifest.h"

#include "coordinator/store/store_backup.h"
#include "core/clock.h"
#include "core/json.h"
#include "core/version.h"

#define FORMAT_VERSION 1
#define KIND           "darkbloom-state"

const char *const state_key_files[STATE_KEY_FILES] = {"receipt_key", "tenant_key", "responses_key"};

void state_manifest_write(const struct state_manifest *manifest, struct buf *out)
{
	struct json_writer w;
	char created[CLOCK_RFC3339_SIZE];
	clock_format_rfc3339(manifest->created_us, created);
	json_writer_init(&w, out);
	json_begin_object(&w);
	json_put_cstr(&w, "kind", KIND);
	json_put_i64(&w, "format_version", FORMAT_VERSION);
	json_put_cstr(&w, "made_by", DARKBLOOM_VERSION);
	json_put_cstr(&w, "created_at", created);
	json_put_i64(&w, "created_us", manifest->created_us);
	json_put_cstr(&w, "encryption_kid", manifest->kid);
	json_key(&w, "files");
	json_begin_array(&w);
	for (size_t i = 0; i < manifest->count; i++)
		store_backup_list(&w, manifest->files[i].name, manifest->files[i].bytes, manifest->files[i].sha256);
	json_end_array(&w);
	json_end_object(&w);
	(void)buf_append_byte(out, '\n');
}

static bool is_plain(struct str name)
{
	if (name.len == 0 || name.at[0] == '.')
		return false;
	for (size_t i = 0; i < name.len; i++) {
		char c = name.at[i];
		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.'))
			return false;
	}
	return true;
}

static bool is_key_file(struct str name)
{
	for (size_t i = 0; i < STATE_KEY_FILES; i++)
		if (str_is(name, state_key_files[i]))
			return true;
	return false;
}

static bool may_be_in_it(struct str name, int64_t bytes)
{
	if (str_starts(name, STR(STATE_KEYS)))
		return is_key_file(str_sub(name, strlen(STATE_KEYS), name.len)) && bytes <= STATE_SECRET_MAX;
	return str_starts(name, STR(STATE_DATABASE)) && is_plain(str_sub(name, strlen(STATE_DATABASE), name.len));
}

static bool read_file(struct state_manifest *manifest, const json_val *file)
{
	struct str name, hash;
	int64_t bytes;
	size_t at = manifest->count;
	if (at == STATE_FILES_MAX || !json_as_str(json_get(file, "name"), &name) || !json_as_i64(json_get(file, "bytes"), &bytes) ||
	    bytes < 0 || !may_be_in_it(name, bytes) || state_manifest_find(manifest, name) >= 0 ||
	    !json_as_str(json_get(file, "sha256"), &hash) || hash.len != SHA256_HEX_SIZE - 1 || memchr(hash.at, '\0', hash.len) ||
	    !str_copy(name, manifest->files[at].name, sizeof manifest->files[at].name) ||
	    !str_copy(hash, manifest->files[at].sha256, sizeof manifest->files[at].sha256))
		return false;
	manifest->files[at].bytes = bytes;
	manifest->count++;
	return true;
}

static enum db_err read_root(struct state_manifest *manifest, const json_val *root, struct error *error)
{
	int64_t format = 0;
	struct str kind = STR_NONE, kid = STR_NONE, key;
	struct json_iter iter = json_iter(json_get(root, "files"));
	json_val *file;
	if (!json_as_str(json_get(root, "kind"), &kind) || !str_is(kind, KIND) ||
	    !json_as_i64(json_get(root, "format_version"), &format) || format != FORMAT_VERSION)
		return error_set(error, DB_E_UNSUPPORTED, "This is no export of a coordinator's state, or one of a newer program.");
	bool good = json_as_i64(json_get(root, "created_us"), &manifest->created_us) &&
	            json_as_str(json_get(root, "encryption_kid"), &kid) && !(kid.len && memchr(kid.at, '\0', kid.len)) &&
	            str_copy(kid, manifest->kid, sizeof manifest->kid);
	while (good && (file = json_next(&iter, &key)))
		good = read_file(manifest, file);
	return good ? DB_OK : error_set(error, DB_E_INVALID, "The export's manifest is damaged.");
}

enum db_err state_manifest_read(struct state_manifest *manifest, struct str text, struct error *error)
{
	struct error why = {0};
	*manifest = (struct state_manifest){0};
	struct json_doc *doc = json_parse(text, NULL, &why);
	enum db_err err = doc ? read_root(manifest, json_root(doc), error)
	                      : error_set(error, DB_E_INVALID, "The export's manifest is damaged: %s", why.text);
	json_free(doc);
	return err;
}

int state_manifest_find(const struct state_manifest *manifest, struct str name)
{
	for (size_t i = 0; i < manifest->count; i++)
		if (str_is(name, manifest->files[i].name))
			return (int)i;
	return -1;
}
