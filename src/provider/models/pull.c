/* models_pull_start: manifest, then each file into a hidden staging folder, then one rename (provider-node 8.5).
 *
 * A file that is already staged whole is kept; a part is resumed with a Range request and begun anew when the server answers
 * with another range or the whole file. A file whose hash differs is deleted. Three tries for each file. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "provider/models/folder.h"

#define ATTEMPTS         3
#define RETRY_MS         1000
#define STALL_MS         60000
#define MANIFEST_MS      30000
#define URL_MAX          4096
#define STAGED_PATH_SIZE (MODEL_PATH_SIZE + MANIFEST_MAX_PATH + 16)

/* What a failed transfer means for the file and for the pull. */
enum verdict {
	VERDICT_RESUME,  /* try again behind what is there */
	VERDICT_RESTART, /* what is there is of no use: try again from the start */
	VERDICT_GIVE_UP, /* trying again would not help */
};

struct models_pull {
	struct net_loop *loop;
	struct http_client *client;
	struct models_pull_options options;
	char manifest_url[2048], dir[MODEL_PATH_SIZE], ca_path[MODEL_PATH_SIZE];
	char staging[MODEL_PATH_SIZE], folder[MODEL_PATH_SIZE];
	struct arena *arena;
	struct manifest manifest;
	uint32_t retry_ms, stall_ms;

	/* the file that is being fetched */
	size_t at;
	int attempt;
	uint64_t before; /* bytes of the files that are done */
	char part[STAGED_PATH_SIZE];
	FILE *sink;
	uint64_t part_bytes;
	struct http_fetch *fetch;
	struct net_timer retry, stall;
	enum verdict verdict; /* of a transfer that was broken off */
	bool checking, cancelled;
	enum db_err check;
	struct error error;
};

static void fetch_file(struct models_pull *pull);

static const struct manifest_file *current_file(const struct models_pull *pull)
{
	return &pull->manifest.files[pull->at];
}

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

/* pull->error says why. */
static void fail(struct models_pull *pull)
{
	finish(pull, NULL);
}

static void fail_disk(struct models_pull *pull, const char *path, int why)
{
	error_set(&pull->error, DB_E_IO, "%s: %s", path, strerror(why));
	fail(pull);
}

static void publish(struct models_pull *pull)
{
	struct model_entry entry;
	bool ok = !folder_write_manifest(pull->staging, &pull->manifest, &pull->error) &&
	          !folder_publish(pull->staging, pull->folder, &pull->error) &&
	          !folder_describe(pull->folder, &entry, &pull->error);
	finish(pull, ok ? &entry : NULL);
}

/* --- failing and trying again --- */

static void on_retry(struct net_timer *timer)
{
	fetch_file(LIST_OF(timer, struct models_pull, retry));
}

/* A transfer is over without the file; pull->error says why. */
static void settle(struct models_pull *pull, enum verdict verdict)
{
	net_timer_stop(&pull->stall);
	if (pull->sink)
		fclose(pull->sink);
	pull->sink = NULL;
	if (verdict == VERDICT_RESTART)
		unlink(pull->part);
	if (verdict == VERDICT_GIVE_UP || ++pull->attempt >= ATTEMPTS)
		fail(pull);
	else
		net_timer_start(pull->loop, &pull->retry, (uint64_t)pull->retry_ms << (pull->attempt - 1), 0, on_retry);
}

static void on_broken_off(struct net_timer *timer)
{
	struct models_pull *pull = LIST_OF(timer, struct models_pull, retry);
	settle(pull, pull->verdict);
}

/* From inside a callback of the transfer, where the pull must not end. pull->error says why. */
static void break_off(struct models_pull *pull, enum verdict verdict)
{
	pull->verdict = verdict;
	http_fetch_cancel(pull->fetch);
	pull->fetch = NULL;
	net_timer_start(pull->loop, &pull->retry, 0, 0, on_broken_off);
}

static void on_stall(struct net_timer *timer)
{
	struct models_pull *pull = LIST_OF(timer, struct models_pull, stall);
	error_set(&pull->error, DB_E_NOT_FOUND, "the server sent nothing for %u s", pull->stall_ms / 1000);
	break_off(pull, VERDICT_RESUME);
}

/* --- verifying, on a worker --- */

static void check_work(void *arg)
{
	struct models_pull *pull = arg;
	const struct manifest_file *file = current_file(pull);
	struct hash_progress quiet = {0};
	char hash[SHA256_HEX_SIZE];
	uint64_t size;
	pull->check = folder_hash_file(pull->part, &quiet, hash, &size, &pull->error);
	if (!pull->check && (size != file->size_bytes || memcmp(hash, file->sha256, 64) != 0))
		pull->check =
		    error_set(&pull->error, DB_E_INVALID, "%.*s does not have the hash that the manifest names", STR_ARG(file->path));
}

static void staged_path(const struct models_pull *pull, const char *suffix, char out[STAGED_PATH_SIZE])
{
	snprintf(out, STAGED_PATH_SIZE, "%s/%.*s%s", pull->staging, STR_ARG(current_file(pull)->path), suffix);
}

static void check_done(void *arg)
{
	struct models_pull *pull = arg;
	char whole[STAGED_PATH_SIZE];
	pull->checking = false;
	if (pull->cancelled) {
		pull_free(pull);
		return;
	}
	if (pull->check) {
		settle(pull, pull->check == DB_E_INVALID ? VERDICT_RESTART : VERDICT_GIVE_UP);
		return;
	}
	staged_path(pull, "", whole);
	if (rename(pull->part, whole) != 0) {
		fail_disk(pull, whole, errno);
		return;
	}
	pull->before += current_file(pull)->size_bytes;
	pull->at++;
	pull->attempt = 0;
	fetch_file(pull);
}

static void check(struct models_pull *pull)
{
	pull->checking = true;
	if (pull->options.on_check)
		pull->options.on_check(pull->options.user);
	net_work(pull->loop, check_work, check_done, pull);
}

/* --- one transfer --- */

static bool continues_the_part(const struct models_pull *pull, const struct http_fetch *fetch)
{
	char expected[64];
	snprintf(expected, sizeof expected, "bytes %llu-", (unsigned long long)pull->part_bytes);
	return pull->part_bytes && str_starts(http_fetch_header(fetch, "content-range"), str_of(expected));
}

static bool begin_anew(struct models_pull *pull)
{
	pull->part_bytes = 0; /* the sink appends */
	return ftruncate(fileno(pull->sink), 0) == 0;
}

/* The part only grows by what follows it. */
static void on_headers(struct http_fetch *fetch, int status, void *user)
{
	struct models_pull *pull = user;
	struct str path = current_file(pull)->path;
	enum verdict verdict;
	if ((status == 206 && continues_the_part(pull, fetch)) || (status == 200 && begin_anew(pull)))
		return;
	if (status == 200) {
		error_set(&pull->error, DB_E_IO, "%s: %s", pull->part, strerror(errno));
		verdict = VERDICT_GIVE_UP;
	} else if (status == 206 || status == 416) {
		error_set(&pull->error, DB_E_INVALID, "the server sent another range of %.*s than it was asked for", STR_ARG(path));
		verdict = VERDICT_RESTART;
	} else {
		bool for_now = status >= 500 || status == 408 || status == 429;
		error_set(&pull->error, DB_E_NOT_FOUND, "%.*s could not be had from the server: %d %s", STR_ARG(path), status,
		          http_status_text(status));
		verdict = for_now ? VERDICT_RESUME : VERDICT_GIVE_UP;
	}
	break_off(pull, verdict);
}

static bool on_data(struct http_fetch *fetch, struct str bytes, void *user)
{
	struct models_pull *pull = user;
	const struct manifest_file *file = current_file(pull);
	(void)fetch;
	if (bytes.len > file->size_bytes - pull->part_bytes) {
		error_set(&pull->error, DB_E_INVALID, "%.*s is longer than the manifest says", STR_ARG(file->path));
		break_off(pull, VERDICT_RESTART);
		return false;
	}
	if (fwrite(bytes.at, 1, bytes.len, pull->sink) != bytes.len) {
		error_set(&pull->error, DB_E_IO, "%s: %s", pull->part, strerror(errno));
		break_off(pull, VERDICT_GIVE_UP);
		return false;
	}
	pull->part_bytes += bytes.len;
	net_timer_start(pull->loop, &pull->stall, pull->stall_ms, 0, on_stall);
	models_progress show = pull->options.progress;
	if (show && !show(pull->before + pull->part_bytes, pull->manifest.total_size_bytes, pull->options.user)) {
		error_set(&pull->error, DB_E_CLOSED, "stopped");
		break_off(pull, VERDICT_GIVE_UP);
		return false;
	}
	return true;
}

static void on_file(struct http_fetch *fetch, int status, struct str body, const struct error *error, void *user)
{
	struct models_pull *pull = user;
	const struct manifest_file *file = current_file(pull);
	(void)fetch;
	(void)body;
	pull->fetch = NULL;
	net_timer_stop(&pull->stall);
	bool stored = fclose(pull->sink) == 0;
	pull->sink = NULL;
	if (!stored) {
		fail_disk(pull, pull->part, errno);
	} else if (!status) {
		error_set(&pull->error, DB_E_NOT_FOUND, "%s", error->text);
		settle(pull, VERDICT_RESUME);
	} else if (pull->part_bytes < file->size_bytes) {
		error_set(&pull->error, DB_E_INVALID, "%.*s is shorter than the manifest says", STR_ARG(file->path));
		settle(pull, VERDICT_RESTART);
	} else {
		check(pull);
	}
}

/* --- the files, one after the other --- */

static bool is_unreserved(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_' ||
	       c == '~' || c == '/';
}

/* The manifest's URL, without its query, up to the last '/'; then the file's path. */
static bool file_url(const struct models_pull *pull, char *out, size_t size)
{
	struct str path = current_file(pull)->path;
	size_t base = strcspn(pull->manifest_url, "?#");
	while (base && pull->manifest_url[base - 1] != '/')
		base--;
	if (base + 3 * path.len >= size)
		return false;
	memcpy(out, pull->manifest_url, base);
	char *at = out + base;
	for (size_t i = 0; i < path.len; i++) {
		if (is_unreserved(path.at[i]))
			*at++ = path.at[i];
		else
			at += snprintf(at, 4, "%%%02X", (unsigned char)path.at[i]);
	}
	*at = '\0';
	return true;
}

static bool staged_size(const char *path, uint64_t *size)
{
	struct stat info;
	bool there = stat(path, &info) == 0 && S_ISREG(info.st_mode);
	*size = there ? (uint64_t)info.st_size : 0;
	return there;
}

/* Finds what is staged of the current file and makes room for the rest. */
static bool prepare_part(struct models_pull *pull)
{
	char whole[STAGED_PATH_SIZE], parent[MODEL_PATH_SIZE];
	uint64_t size;
	staged_path(pull, "", whole);
	staged_path(pull, ".part", pull->part);
	if (!str_copy((struct str){pull->part, (size_t)(strrchr(pull->part, '/') - pull->part)}, parent, sizeof parent)) {
		error_set(&pull->error, DB_E_LIMIT, "a path of the manifest is too long for the folder %s", pull->dir);
		return false;
	}
	if (folder_make(parent, &pull->error))
		return false;
	if (staged_size(whole, &size))
		rename(whole, pull->part); /* it is hashed again: that costs a read and saves a download */
	staged_size(pull->part, &pull->part_bytes);
	if (pull->part_bytes > current_file(pull)->size_bytes) {
		unlink(pull->part);
		pull->part_bytes = 0;
	}
	return true;
}

static void fetch_file(struct models_pull *pull)
{
	char url[URL_MAX];
	if (pull->at == pull->manifest.file_count) {
		publish(pull);
		return;
	}
	if (!prepare_part(pull)) {
		fail(pull);
		return;
	}
	if (!file_url(pull, url, sizeof url)) {
		error_set(&pull->error, DB_E_LIMIT, "the address of a file is too long");
		fail(pull);
		return;
	}
	pull->sink = fopen(pull->part, "abe");
	if (!pull->sink) {
		fail_disk(pull, pull->part, errno);
		return;
	}
	if (pull->part_bytes == current_file(pull)->size_bytes) {
		fclose(pull->sink);
		pull->sink = NULL;
		check(pull);
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
		fail(pull);
	else
		net_timer_start(pull->loop, &pull->stall, pull->stall_ms, 0, on_stall);
}

/* --- the manifest --- */

/* Room for what is not yet staged; a file system that does not say how much it has is taken to have enough. */
static bool disk_has_room(struct models_pull *pull)
{
	struct statvfs disk;
	uint64_t need = pull->manifest.total_size_bytes, size;
	char path[STAGED_PATH_SIZE];
	for (pull->at = 0; pull->at < pull->manifest.file_count; pull->at++) {
		staged_path(pull, "", path);
		if (!staged_size(path, &size)) {
			staged_path(pull, ".part", path);
			staged_size(path, &size);
		}
		need -= size < current_file(pull)->size_bytes ? size : current_file(pull)->size_bytes;
	}
	pull->at = 0;
	if (statvfs(pull->staging, &disk) != 0 || !disk.f_frsize)
		return true;
	uint64_t have = (uint64_t)disk.f_bavail * disk.f_frsize, keep = need ? pull->options.keep_free_bytes : 0;
	bool enough = need <= have && keep <= have - need;
	if (!enough && keep)
		error_set(&pull->error, DB_E_IO,
		          "%s has %.1f GB free, %.1f GB are still to be downloaded, and %.1f GB are to stay free", pull->dir,
		          (double)have / 1e9, (double)need / 1e9, (double)keep / 1e9);
	else if (!enough)
		error_set(&pull->error, DB_E_IO, "%s has %.1f GB free, and %.1f GB are still to be downloaded", pull->dir,
		          (double)have / 1e9, (double)need / 1e9);
	return enough;
}

static bool is_accepted(struct models_pull *pull)
{
	const struct manifest *manifest = &pull->manifest;
	struct models_offered offered = {manifest->model_id, manifest->aggregate_sha256, manifest->total_size_bytes};
	return !pull->options.accepts || pull->options.accepts(&offered, pull->options.user, &pull->error);
}

static void on_manifest(struct http_fetch *fetch, int status, struct str body, const struct error *error, void *user)
{
	struct models_pull *pull = user;
	(void)fetch;
	pull->fetch = NULL;
	if (status != 200) {
		error_set(&pull->error, DB_E_NOT_FOUND, "%s could not be fetched: %s", pull->manifest_url,
		          status ? http_status_text(status) : error->text);
		fail(pull);
		return;
	}
	struct str kept = arena_str(pull->arena, body);
	if (manifest_parse(kept, pull->arena, &pull->manifest, &pull->error) ||
	    folder_path(pull->dir, pull->manifest.model_id, pull->folder, &pull->error) || !is_accepted(pull)) {
		fail(pull);
		return;
	}
	int n = snprintf(pull->staging, sizeof pull->staging, "%s/.staging-%.16s", pull->dir, pull->manifest.aggregate_sha256);
	if (n < 0 || (size_t)n >= sizeof pull->staging)
		error_set(&pull->error, DB_E_LIMIT, "the path of the models folder is too long");
	else if (!folder_make(pull->staging, &pull->error) && disk_has_room(pull)) {
		fetch_file(pull);
		return;
	}
	fail(pull);
}

enum db_err models_manifest_url(const char *base, struct str id, char *out, size_t size, struct error *error)
{
	char trimmed[MODEL_PATH_SIZE], folder[MODEL_PATH_SIZE];
	struct str shorter = str_of(base);
	while (str_ends(shorter, STR("/")))
		shorter.len--;
	if (!str_copy(shorter, trimmed, sizeof trimmed))
		return error_set(error, DB_E_LIMIT, "the address of the models is too long");
	enum db_err err = folder_path(trimmed, id, folder, error);
	int n = err ? 0 : snprintf(out, size, "%s/manifest.json", folder);
	return err || (size_t)n < size ? err : error_set(error, DB_E_LIMIT, "the address of the models is too long");
}

/* http(s)://host/.../name */
static bool has_a_path(struct str url)
{
	struct str rest = str_sub(url, str_starts(url, STR("https://")) ? 8 : 7, url.len);
	return (str_starts(url, STR("http://")) || str_starts(url, STR("https://"))) && rest.len && memchr(rest.at, '/', rest.len);
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
	pull->retry_ms = options->retry_ms ? options->retry_ms : RETRY_MS;
	pull->stall_ms = options->stall_ms ? options->stall_ms : STALL_MS;
	pull->arena = arena_new(0);
	if (!pull->arena || !has_a_path(str_of(options->manifest_url)) ||
	    !str_copy(str_of(options->manifest_url), pull->manifest_url, sizeof pull->manifest_url) ||
	    !str_copy(str_of(options->dir), pull->dir, sizeof pull->dir) ||
	    !str_copy(str_of(options->ca_path), pull->ca_path, sizeof pull->ca_path)) {
		error_set(error, DB_E_INVALID, "\"%s\" is not the address of a manifest", options->manifest_url);
		goto fail;
	}
	struct http_fetch_options fetch = {.method = "GET",
	                                   .url = pull->manifest_url,
	                                   .ca_path = options->ca_path,
	                                   .max_body_bytes = MANIFEST_MAX_BYTES,
	                                   .timeout_ms = MANIFEST_MS,
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
	net_timer_stop(&pull->stall);
	if (pull->fetch)
		http_fetch_cancel(pull->fetch);
	pull->fetch = NULL;
	pull->cancelled = true;
	if (!pull->checking)
		pull_free(pull);
}
