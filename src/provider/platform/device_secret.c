/* A secret of this device: sealed by the hardware where that can be had, else in a file of mode 0600. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/encode.h"
#include "core/id.h"
#include "crypto/secret.h"
#include "provider/platform/secret_keeper.h"

#define PATH_SIZE 4000

const char *platform_keeper_name(enum platform_keeper keeper)
{
	static const char *const names[] = {"file", "memory", "tpm", "secure_enclave"};
	return names[keeper];
}

bool platform_keeper_is_secure(enum platform_keeper keeper)
{
	return keeper == PLATFORM_KEEPER_TPM || keeper == PLATFORM_KEEPER_SECURE_ENCLAVE;
}

/* --- files --- */

/* A name that appeared or went must be on the disk before the secret's other place is given up. */
static void sync_folder_of(const char *path)
{
	char folder[PATH_SIZE + 32];
	const char *slash = strrchr(path, '/');
	str_copy(slash ? (struct str){path, (size_t)(slash - path)} : STR("."), folder, sizeof folder);
	int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return;
	fsync(fd);
	close(fd);
}

enum db_err secret_file_create(const char *path, struct str content, struct error *error)
{
	char suffix[17], temporary[PATH_SIZE + 32];
	id_hex(suffix, 8);
	int n = snprintf(temporary, sizeof temporary, "%s.%s", path, suffix);
	if (n < 0 || (size_t)n >= sizeof temporary)
		return error_set(error, DB_E_LIMIT, "the state folder's path is too long");
	enum db_err err = platform_write_private(temporary, content, error);
	if (err)
		return err;
	if (link(temporary, path) != 0)
		err = error_set(error, errno == EEXIST ? DB_E_EXISTS : DB_E_IO, "%s could not be made: %s", path, strerror(errno));
	unlink(temporary);
	sync_folder_of(path);
	return err;
}

enum db_err secret_file_erase(const char *path, struct error *error)
{
	static const char zeros[512];
	if (access(path, F_OK) != 0 && errno == ENOENT)
		return DB_OK;
	int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd >= 0) {
		off_t size = lseek(fd, 0, SEEK_END);
		for (off_t at = 0; at < size && pwrite(fd, zeros, sizeof zeros, at) > 0; at += (off_t)sizeof zeros)
			continue;
		fsync(fd);
		close(fd);
	}
	if (unlink(path) != 0 && errno != ENOENT)
		return error_set(error, DB_E_IO, "%s could not be removed: %s", path, strerror(errno));
	sync_folder_of(path);
	return DB_OK;
}

static enum db_err plain_load(const char *path, uint8_t out[PLATFORM_SECRET_BYTES], struct error *error)
{
	struct buf text;
	buf_init(&text, 4096);
	enum db_err err = platform_read_file(path, 1024, &text, error);
	if (!err && hex_decode(str_trim(buf_str(&text)), out, PLATFORM_SECRET_BYTES))
		err = error_set(error, DB_E_INVALID, "%s does not hold a secret: move it away and start again to make a new one", path);
	buf_free(&text);
	return err;
}

static enum db_err plain_open(const char *path, struct platform_secret *out, struct error *error)
{
	char hex[2 * PLATFORM_SECRET_BYTES + 1];
	out->kept = PLATFORM_KEEPER_FILE;
	out->origin = PLATFORM_SECRET_FOUND;
	enum db_err err = plain_load(path, out->bytes, error);
	if (err != DB_E_NOT_FOUND)
		return err;
	out->origin = PLATFORM_SECRET_MADE;
	id_random(out->bytes, sizeof out->bytes);
	hex_encode(out->bytes, sizeof out->bytes, hex);
	err = secret_file_create(path, (struct str){hex, sizeof hex - 1}, error);
	secret_wipe(hex, sizeof hex);
	return err && err != DB_E_EXISTS ? err : plain_load(path, out->bytes, error);
}

/* --- sealed --- */

static enum db_err find(struct secret_keeper *keeper, uint8_t out[PLATFORM_SECRET_BYTES], struct error *error)
{
	struct buf blob;
	buf_init(&blob, 2 * KEEPER_BLOB_MAX);
	enum db_err err = keeper->ops->load(keeper, &blob, error);
	if (!err)
		err = keeper->ops->unwrap(keeper, buf_str(&blob), out, error);
	buf_free(&blob);
	return err;
}

/* What a file in the clear holds, or a new one. */
static enum db_err begin(const char *plain_path, struct platform_secret *out, struct error *error)
{
	enum db_err err = plain_load(plain_path, out->bytes, error);
	if (!err)
		out->origin = PLATFORM_SECRET_ADOPTED;
	if (err != DB_E_NOT_FOUND)
		return err;
	id_random(out->bytes, sizeof out->bytes);
	return DB_OK;
}

/* Whoever comes second takes what is there: what counts is what opens again. */
static enum db_err seal(struct secret_keeper *keeper, struct platform_secret *out, struct error *error)
{
	struct buf blob;
	buf_init(&blob, 2 * KEEPER_BLOB_MAX);
	enum db_err err = keeper->ops->wrap(keeper, out->bytes, &blob, error);
	if (!err)
		err = keeper->ops->save(keeper, buf_str(&blob), error);
	if (!err || err == DB_E_EXISTS)
		err = find(keeper, out->bytes, error);
	buf_free(&blob);
	return err;
}

enum db_err secret_keep(struct secret_keeper *keeper, const char *plain_path, struct platform_secret *out, struct error *error)
{
	struct error lost = {0};
	out->kept = keeper->ops->kind;
	out->origin = PLATFORM_SECRET_FOUND;
	enum db_err err = find(keeper, out->bytes, &lost);
	if (err == DB_E_CRYPTO) {
		out->origin = PLATFORM_SECRET_RENEWED;
		str_copy(str_of(lost.text), out->why, sizeof out->why);
		err = keeper->ops->discard(keeper, error);
		if (err)
			return err;
		err = DB_E_NOT_FOUND;
	} else if (err == DB_E_NOT_FOUND) {
		out->origin = PLATFORM_SECRET_MADE;
	} else if (err) {
		return error_set(error, err, "%s", lost.text);
	}
	if (err) {
		err = begin(plain_path, out, error);
		if (!err)
			err = seal(keeper, out, error);
	}
	return err ? err : secret_file_erase(plain_path, error);
}

/* --- which --- */

static struct secret_keeper *open_keeper(const struct platform_secret_options *options, const char *path, struct error *error)
{
	char sealed_path[PATH_SIZE + 8];
#ifdef __APPLE__
	bool enclave = options->choice != PLATFORM_SECRET_TPM;
#else
	bool enclave = options->choice == PLATFORM_SECRET_SECURE_ENCLAVE;
#endif
	if (enclave)
		return enclave_keeper_open(error);
	snprintf(sealed_path, sizeof sealed_path, "%s.tpm", path);
	return tpm_keeper_open(sealed_path, options->tpm, error);
}

static enum db_err sealed_open(const struct platform_secret_options *options, const char *path, struct platform_secret *out,
                               struct error *error)
{
	struct secret_keeper *keeper = open_keeper(options, path, error);
	if (!keeper)
		return error->code;
	enum db_err err = secret_keep(keeper, path, out, error);
	keeper->ops->close(keeper);
	return err;
}

static enum db_err choose(const struct platform_secret_options *options, const char *path, struct platform_secret *out,
                          struct error *error)
{
	struct error why = {0};
	if (options->choice == PLATFORM_SECRET_MEMORY) {
		out->kept = PLATFORM_KEEPER_MEMORY;
		out->origin = PLATFORM_SECRET_MADE;
		str_copy(STR("the settings ask for none that is kept"), out->why, sizeof out->why);
		id_random(out->bytes, sizeof out->bytes);
		return DB_OK;
	}
	if (options->choice != PLATFORM_SECRET_FILE) {
		enum db_err err = sealed_open(options, path, out, &why);
		if (!err)
			return DB_OK;
		if (options->choice != PLATFORM_SECRET_AUTO)
			return error_set(error, err, "%s", why.text);
	}
	str_copy(str_of(options->choice == PLATFORM_SECRET_FILE ? "the settings ask for a file" : why.text), out->why,
	         sizeof out->why);
	return plain_open(path, out, error);
}

/* One process of a state folder at a time; where the folder cannot be locked, what appears whole and never replaces has to do.
 */
static int lock_folder(const char *state_dir)
{
	int fd = open(state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	while (fd >= 0 && flock(fd, LOCK_EX) != 0 && errno == EINTR)
		continue;
	return fd;
}

struct platform_secret *platform_secret_open(const struct platform_secret_options *options, struct error *error)
{
	char path[PATH_SIZE];
	int n = snprintf(path, sizeof path, "%s/%s", options->state_dir, options->name);
	if (n < 0 || (size_t)n >= sizeof path) {
		error_set(error, DB_E_LIMIT, "the state folder's path is too long");
		return NULL;
	}
	if (options->choice != PLATFORM_SECRET_MEMORY && platform_make_parents(path, error))
		return NULL;
	struct platform_secret *secret = secret_alloc(sizeof *secret);
	if (!secret) {
		error_set(error, DB_E_NOMEM, "out of memory");
		return NULL;
	}
	int lock = lock_folder(options->state_dir);
	enum db_err err = choose(options, path, secret, error);
	if (lock >= 0)
		close(lock);
	if (!err)
		return secret;
	secret_free(secret);
	return NULL;
}

void platform_secret_free(struct platform_secret *secret)
{
	if (secret)
		secret_free(secret);
}
