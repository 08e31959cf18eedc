/* models_pull_start: manifest, then each file into a hidden staging folder, then one rename.
 *
 * A file that is already staged whole is kept; a part is resumed with a Range request and thrown away when the server does not
 * answer it with the right 206. A file whose hash differs is deleted and tried again, three times. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/log.h"
#include "provider/models/folder.h"

#define ATTEMPTS 3
#define RETRY_MS 1000

struct models_pull {
	struct net_loop *loop;
	struct http_client *client;
	struct models_pull_options options;
	char manifest_url[2048], dir[MODEL_PATH_SIZE], ca_path[MODEL_PATH_SIZE];
	char staging[MODEL_PATH_SIZE], folder[MODEL_PATH_SIZE];
	struct arena *arena;
	struct manifest manifest;
	size_t at; /* the file that is being fetched */
	int attempt;
	uint64_t before; /* bytes of the files that are done */
	char part[MODEL_PATH_SIZE];
	FILE *sink;
	uint64_t part_bytes;
	struct http_fetch *fetch;
	struct net_timer retry;
	struct error error;
	bool checking, cancelled;
	enum db_err check;
};

static void fetch_file(struct models_pull *pull);

static void pull_free(struct models_pull *pull)
{
	if (pull->sink)
		fclose(pull->sink);
	arena_free(pull->arena);
	free(pull);
}

static void finish(struct models_pull *pull, const struct model_entry *entry)
{
	pull->options.done(entry, entry ? NULL : &pull->error, pull->options.user);
	pull_free(pull);
}

static void fail(struct models_pull *pull, enum db_err code, const char *what, const char *why)
{
	error_set(&pull->error, code, "%s: %s. What was downloaded is kept: run the same command again to go on", what, why);
	finish(pull, NULL);
}

static void try_again(struct models_pull *pull, const char *why);

/* --- publishing --- */

static void publish(struct models_pull *pull)
{
	struct model_entry entry;
	char old[MODEL_PATH_SIZE + 8];
	if (write_manifest(pull->staging, &pull->manifest, &pull->error)) {
		finish(pull, NULL);
		return;
	}
	snprintf(old, sizeof old, "%s.old", pull->folder);
	bool replaced = rename(pull->folder, old) == 0;
	if (rename(pull->staging, pull->folder) != 0) {
		int why = errno;
		if (replaced)
			rename(old, pull->folder);
		fail(pull, DB_E_IO, "the model could not be put in place", strerror(why));
		return;
	}
	if (replaced)
		log_info("models.replaced", "old=%s", old);
	finish(pull, describe_folder(pull->folder, &entry, &pull->error) ? NULL : &entry);
}

/* --- verifying, on a worker --- */

static void check_work(void *arg)
{
	struct models_pull *pull = arg;
	const struct manifest_file *file = &pull->manifest.files[pull->at];
	struct hash_progress quiet = {0};
	char hash[SHA256_HEX_SIZE];
	uint64_t size;
	pull->check = hash_model_file(pull->part, &quiet, hash, &size, &pull->error);
	if (!pull->check && (size != file->size_bytes || memcmp(hash, file->sha256, 64) != 0))
		pull->check = DB_E_INVALID;
}

static void check_done(void *arg)
{
	struct models_pull *pull = arg;
	const struct manifest_file *file = &pull->manifest.files[pull->at];
	char whole[2 * MODEL_PATH_SIZE];
	pull->checking = false;
	if (pull->cancelled) {
		pull_free(pull);
		return;
	}
	if (pull->check) {
		unlink(pull->part);
		try_again(pull, "a file did not have the hash that its manifest names");
		return;
	}
	snprintf(whole, sizeof whole, "%s/%.*s", pull->staging, STR_ARG(file->path));
	if (rename(pull->part, whole) != 0) {
		fail(pull, DB_E_IO, whole, strerror(errno));
		return;
	}
	pull->before += file->size_bytes;
	pull->at++;
	pull->attempt = 0;
	fetch_file(pull);
}

static void check(struct models_pull *pull)
{
	pull->checking = true;
	net_work(pull->loop, check_work, check_done, pull);
}

/* --- fetching --- */

static void on_retry(struct net_timer *timer)
{
	fetch_file((struct models_pull *)(void *)((char *)timer - offsetof(struct models_pull, retry)));
}

static void try_again(struct models_pull *pull, const char *why)
{
	if (++pull->attempt >= ATTEMPTS) {
		fail(pull, DB_E_IO, pull->manifest_url, why);
		return;
	}
	net_timer_start(pull->loop, &pull->retry, (uint64_t)RETRY_MS << (pull->attempt - 1), 0, on_retry);
}

/* The part can only grow when the server sends exactly what follows it. */
static void on_headers(struct http_fetch *fetch, int status, void *user)
{
	struct models_pull *pull = user;
	char expected[64];
	if (!pull->part_bytes)
		return;
	snprintf(expected, sizeof expected, "bytes %llu-", (unsigned long long)pull->part_bytes);
	if (status == 206 && str_starts(http_fetch_header(fetch, "content-range"), str_of(expected)))
		return;
	if (status == 200 && pull->sink && ftruncate(fileno(pull->sink), 0) == 0)
		pull->part_bytes = 0; /* the server sends the whole file again; the sink appends from the start */
}

static bool on_data(struct http_fetch *fetch, struct str bytes, void *user)
{
	struct models_pull *pull = user;
	const struct manifest_file *file = &pull->manifest.files[pull->at];
	(void)fetch;
	if (pull->part_bytes + bytes.len > file->size_bytes || fwrite(bytes.at, 1, bytes.len, pull->sink) != bytes.len)
		return false;
	pull->part_bytes += bytes.len;
	return !pull->options.progress ||
	       pull->options.progress(pull->before + pull->part_bytes, pull->manifest.total_size_bytes, pull->options.user);
}

static void on_file(struct http_fetch *fetch, int status, struct str body, const struct error *error, void *user)
{
	struct models_pull *pull = user;
	const struct manifest_file *file = &pull->manifest.files[pull->at];
	(void)fetch;
	(void)body;
	pull->fetch = NULL;
	bool stored = fclose(pull->sink) == 0;
	pull->sink = NULL;
	if (stored && (status == 200 || status == 206) && pull->part_bytes == file->size_bytes) {
		check(pull);
		return;
	}
	if (status == 403 || status == 404) {
		fail(pull, DB_E_NOT_FOUND, "a file of the manifest is missing on the server", http_status_text(status));
		return;
	}
	if (status)
		unlink(pull->part); /* an error page, a wrong range or more bytes than promised */
	try_again(pull, status ? "the server did not send the file" : error->text);
}

/* The manifest's URL up to its last '/', then the file's path. */
static bool file_url(const struct models_pull *pull, char *out, size_t size)
{
	const char *slash = strrchr(pull->manifest_url, '/');
	struct str path = pull->manifest.files[pull->at].path;
	int n = snprintf(out, size, "%.*s/%.*s", (int)(slash - pull->manifest_url), pull->manifest_url, STR_ARG(path));
	return n > 0 && (size_t)n < size;
}

static bool staged_size(const char *path, uint64_t *size)
{
	struct stat info;
	bool there = stat(path, &info) == 0 && S_ISREG(info.st_mode);
	*size = there ? (uint64_t)info.st_size : 0;
	return there;
}

static void fetch_file(struct models_pull *pull)
{
	if (pull->at == pull->manifest.file_count) {
		publish(pull);
		return;
	}
	const struct manifest_file *file = &pull->manifest.files[pull->at];
	char url[4096], whole[2 * MODEL_PATH_SIZE], parent[MODEL_PATH_SIZE];
	uint64_t size;
	int n = snprintf(pull->part, sizeof pull->part, "%s/%.*s.part", pull->staging, STR_ARG(file->path));
	if (n < 0 || (size_t)n >= sizeof pull->part || !file_url(pull, url, sizeof url)) {
		fail(pull, DB_E_LIMIT, "a path of the manifest", "it is too long");
		return;
	}
	snprintf(whole, sizeof whole, "%s/%.*s", pull->staging, STR_ARG(file->path));
	str_copy((struct str){pull->part, (size_t)(strrchr(pull->part, '/') - pull->part)}, parent, sizeof parent);
	if (make_folders(parent, &pull->error)) {
		finish(pull, NULL);
		return;
	}
	if (staged_size(whole, &size))
		rename(whole, pull->part); /* verified again below: it costs a read and saves a download */
	staged_size(pull->part, &pull->part_bytes);
	if (pull->part_bytes == file->size_bytes) {
		check(pull);
		return;
	}
	if (pull->part_bytes > file->size_bytes) {
		unlink(pull->part);
		pull->part_bytes = 0;
	}
	pull->sink = fopen(pull->part, "abe");
	if (!pull->sink) {
		fail(pull, DB_E_IO, pull->part, strerror(errno));
		return;
	}
	struct http_fetch_options options = {.method = "GET",
	                                     .url = url,
	                                     .ca_path = pull->ca_path[0] ? pull->ca_path : NULL,
	                                     .resume_from = pull->part_bytes,
	                                     .user = pull,
	                                     .on_headers = on_headers,
	                                     .on_data = on_data,
	                                     .on_done = on_file};
	pull->fetch = http_fetch(pull->client, &options, &pull->error);
	if (!pull->fetch)
		finish(pull, NULL);
}

static void on_manifest(struct http_fetch *fetch, int status, struct str body, const struct error *error, void *user)
{
	struct models_pull *pull = user;
	(void)fetch;
	pull->fetch = NULL;
	if (status != 200) {
		error_set(&pull->error, DB_E_NOT_FOUND, "%s could not be fetched: %s", pull->manifest_url,
		          status ? http_status_text(status) : error->text);
		finish(pull, NULL);
		return;
	}
	struct str kept = arena_str(pull->arena, body);
	if (manifest_parse(kept, pull->arena, &pull->manifest, &pull->error) ||
	    model_folder(pull->dir, pull->manifest.model_id, pull->folder, &pull->error)) {
		finish(pull, NULL);
		return;
	}
	int n = snprintf(pull->staging, sizeof pull->staging, "%s/.staging-%.12s", pull->dir, pull->manifest.aggregate_sha256);
	if (n < 0 || (size_t)n >= sizeof pull->staging || make_folders(pull->staging, &pull->error)) {
		finish(pull, NULL);
		return;
	}
	fetch_file(pull);
}

struct models_pull *models_pull_start(struct net_loop *loop, struct http_client *client,
                                      const struct models_pull_options *options, struct error *error)
{
	struct models_pull *pull = calloc(1, sizeof *pull);
	if (!pull) {
		error_set(error, DB_E_NOMEM, "out of memory");
		return NULL;
	}
	pull->loop = loop;
	pull->client = client;
	pull->options = *options;
	pull->arena = arena_new(0);
	if (!pull->arena || !str_copy(str_of(options->manifest_url), pull->manifest_url, sizeof pull->manifest_url) ||
	    !str_copy(str_of(options->dir), pull->dir, sizeof pull->dir) ||
	    !str_copy(str_of(options->ca_path), pull->ca_path, sizeof pull->ca_path) || !strrchr(pull->manifest_url, '/')) {
		error_set(error, DB_E_INVALID, "the manifest's address or the models folder is not usable");
		goto fail;
	}
	struct http_fetch_options fetch = {.method = "GET",
	                                   .url = pull->manifest_url,
	                                   .ca_path = options->ca_path,
	                                   .max_body_bytes = MANIFEST_MAX_BYTES,
	                                   .timeout_ms = 30000,
	                                   .user = pull,
	                                   .on_done = on_manifest};
	pull->fetch = http_fetch(client, &fetch, error);
	if (pull->fetch)
		return pull;
fail:
	pull_free(pull);
	return NULL;
}

void models_pull_cancel(struct models_pull *pull)
{
	net_timer_stop(&pull->retry);
	if (pull->fetch)
		http_fetch_cancel(pull->fetch);
	pull->fetch = NULL;
	pull->cancelled = true;
	if (!pull->checking)
		pull_free(pull);
}
