#include "coordinator/state_admin.h"

#include "coordinator/operator.h"
#include "coordinator/serve.h"
#include "coordinator/state_export.h"
#include "coordinator/state_import.h"
#include "core/cli.h"
#include "crypto/age.h"
#include "crypto/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define PART_BYTES        (256u << 10)
#define OUT_MAX           (4u << 20)
#define IDENTITY_FILE_MAX 8192

static int refuse(const struct error *error)
{
	fprintf(stderr, "darkbloom-coordinator: %s\n", error->text);
	return CLI_FAILED;
}

/* --- state-key --- */

int state_admin_key(const char *identity_file)
{
	struct age_identity identity;
	struct age_recipient recipient;
	struct error error;
	char secret[AGE_KEY_SIZE], public[AGE_KEY_SIZE], text[3 * AGE_KEY_SIZE];
	if (access(identity_file, F_OK) == 0) {
		fprintf(stderr, "darkbloom-coordinator: %s exists: an identity is never replaced.\n", identity_file);
		return CLI_FAILED;
	}
	age_identity_new(&identity);
	age_recipient_of(&identity, &recipient);
	age_recipient_write(&recipient, public);
	age_identity_write(&identity, secret);
	int len = snprintf(text, sizeof text, "# public key: %s\n%s\n", public, secret);
	enum db_err err = serve_write_secret(identity_file, (struct str){text, (size_t)len}, &error);
	secret_wipe(&identity, sizeof identity);
	secret_wipe(secret, sizeof secret);
	secret_wipe(text, sizeof text);
	if (err)
		return refuse(&error);
	printf("%s\n", public);
	return CLI_OK;
}

/* --- progress --- */

struct progress {
	const char *what;
	int64_t total;
	int said; /* tenths */
};

static void say_progress(struct progress *progress, int64_t done)
{
	int tenths = progress->total > 0 ? (int)((double)done / (double)progress->total * 10) : 10;
	if (tenths <= progress->said)
		return;
	progress->said = tenths;
	fprintf(stderr, "%s %d %% of %.1f MiB.\n", progress->what, tenths * 10, (double)progress->total / 1048576);
}

/* --- export-state --- */

static enum db_err write_all(int fd, struct str bytes, const char *file, struct error *error)
{
	while (bytes.len > 0) {
		ssize_t len = write(fd, bytes.at, bytes.len);
		if (len <= 0)
			return error_set(error, DB_E_IO, "%s cannot be written: %s.", file, strerror(errno));
		bytes = str_sub(bytes, (size_t)len, bytes.len - (size_t)len);
	}
	return DB_OK;
}

static enum db_err write_export(struct state_export *export, int fd, const char *file, struct error *error)
{
	struct buf out;
	bool is_last = false;
	enum db_err err = DB_OK;
	struct progress progress = {"Exported", state_export_bytes(export), 0};
	buf_init(&out, OUT_MAX);
	while (!err && !is_last) {
		buf_clear(&out);
		err = state_export_next(export, &out, &is_last, error);
		if (!err)
			err = write_all(fd, buf_str(&out), file, error);
		say_progress(&progress, state_export_done(export));
	}
	buf_free(&out);
	if (!err && fsync(fd) != 0)
		err = error_set(error, DB_E_IO, "%s cannot be written: %s.", file, strerror(errno));
	return err;
}

static void tell_kid(const char *kid)
{
	if (kid[0])
		printf(
		    "The key of the sealed transport comes of the mnemonic in the environment: set the same one on the new host. Its "
		    "id, as GET /v1/encryption-key tells it, is %s.\n",
		    kid);
}

/* Whoever runs the command can read the files anyhow: an export that cannot be noted is made all the same. */
static void note_export(const struct coordinator_config *config, const char *whom)
{
	struct error error;
	if (operator_note_export(config, whom, &error))
		fprintf(stderr, "darkbloom-coordinator: The audit trail does not say that the state was exported: %s\n", error.text);
}

int state_admin_export(const struct coordinator_config *config, const char *recipient, const char *file)
{
	struct error error;
	const char *whom = recipient ? recipient : config->state_recipient;
	if (!whom[0]) {
		fprintf(stderr,
		        "darkbloom-coordinator: an export needs a recipient: --recipient age1..., or state_export.recipient.\n");
		return CLI_USAGE;
	}
	int fd = open(file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0) {
		if (errno == EEXIST)
			fprintf(stderr, "darkbloom-coordinator: %s exists: an export replaces no file, give another name.\n", file);
		else
			fprintf(stderr, "darkbloom-coordinator: %s cannot be made: %s.\n", file, strerror(errno));
		return CLI_FAILED;
	}
	struct state_export *export = state_export_new(config, str_of(whom), &error);
	if (export)
		note_export(config, whom);
	enum db_err err = export ? write_export(export, fd, file, &error) : error.code;
	if (close(fd) != 0 && !err)
		err = error_set(&error, DB_E_IO, "%s cannot be written: %s.", file, strerror(errno));
	if (err)
		(void)unlink(file);
	else
		printf("Exported %zu files into %s.\n", state_export_files(export), file);
	if (!err)
		tell_kid(state_export_kid(export));
	state_export_free(export);
	return err ? refuse(&error) : CLI_OK;
}

/* --- import-state --- */

static enum db_err read_identity(const char *file, struct age_identity *out, struct error *error)
{
	char text[IDENTITY_FILE_MAX];
	int fd = open(file, O_RDONLY | O_CLOEXEC);
	ssize_t len = fd >= 0 ? read(fd, text, sizeof text) : -1;
	if (fd >= 0)
		close(fd);
	if (len < 0)
		return error_set(error, DB_E_IO, "%s cannot be read: %s.", file, strerror(errno));
	enum db_err err = DB_E_NOT_FOUND;
	for (struct str rest = {text, (size_t)len}, line; err && rest.len > 0;) {
		rest = str_cut(rest, '\n', &line);
		line = str_trim(line);
		if (line.len > 0 && line.at[0] != '#')
			err = age_identity_parse(line, out);
	}
	secret_wipe(text, sizeof text);
	return err ? error_set(error, DB_E_INVALID, "%s holds no identity of age: AGE-SECRET-KEY-1...", file) : DB_OK;
}

static enum db_err read_archive(struct age_reader *age, struct state_import *import, int fd, struct error *error)
{
	struct stat info;
	struct buf plain;
	int64_t done = 0;
	ssize_t len = 0;
	enum db_err err = DB_OK;
	char *part = malloc(PART_BYTES);
	struct progress progress = {"Read", fstat(fd, &info) == 0 ? info.st_size : 0, 0};
	buf_init(&plain, OUT_MAX);
	if (!part)
		err = error_set(error, DB_E_NOMEM, "There is no memory for an import.");
	while (!err && (len = read(fd, part, PART_BYTES)) > 0) {
		buf_clear(&plain);
		err = age_read(age, (struct str){part, (size_t)len}, &plain, error);
		if (!err)
			err = state_import_read(import, buf_str(&plain), error);
		say_progress(&progress, done += len);
	}
	if (!err && len < 0)
		err = error_set(error, DB_E_IO, "The export cannot be read: %s.", strerror(errno));
	buf_clear(&plain);
	if (!err)
		err = age_read_end(age, &plain, error);
	if (!err)
		err = state_import_read(import, buf_str(&plain), error);
	buf_free(&plain);
	free(part);
	return err ? err : state_import_check(import, error);
}

int state_admin_import(const struct coordinator_config *config, const char *identity_file, const char *file)
{
	struct error error;
	struct age_identity identity;
	struct age_reader *age = NULL;
	struct state_import *import = NULL;
	enum db_err err = read_identity(identity_file, &identity, &error);
	int fd = err ? -1 : open(file, O_RDONLY | O_CLOEXEC);
	if (!err && fd < 0)
		err = error_set(&error, DB_E_IO, "%s cannot be read: %s.", file, strerror(errno));
	if (!err && !(age = age_reader_new(&identity)))
		err = error_set(&error, DB_E_NOMEM, "There is no memory for an import.");
	secret_wipe(&identity, sizeof identity);
	if (!err)
		err = serve_make_dir(config->dir, &error);
	if (!err && !(import = state_import_new(config->dir, &error)))
		err = error.code;
	if (!err)
		err = read_archive(age, import, fd, &error);
	if (!err)
		err = state_import_place(import, config, &error);
	if (!err) {
		printf("Imported %zu files. The books add up. The coordinator will start draining: open its gate with POST "
		       "/v1/admin/drain {\"draining\":false} when all is well.\n",
		       state_import_files(import));
		tell_kid(state_import_kid(import));
	}
	if (fd >= 0)
		close(fd);
	age_reader_free(age);
	state_import_free(import);
	return err ? refuse(&error) : CLI_OK;
}
