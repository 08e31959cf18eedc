/* state.json: the first file of a state export (docs/operator/database.md), and what else may be in one. Inside state_*.c only.
 * Thread: any. */
#ifndef COORDINATOR_STATE_MANIFEST_H
#define COORDINATOR_STATE_MANIFEST_H

#include "core/buf.h"
#include "crypto/box.h"
#include "crypto/hash.h"

#define STATE_FILES_MAX   144
#define STATE_NAME_SIZE   96
#define STATE_SECRET_MAX  256 /* bytes of a file of keys/ */
#define STATE_MANIFEST    "state.json"
#define STATE_KEYS        "keys/"
#define STATE_DATABASE    "database/"
#define STATE_TEXT_MAX    (1u << 20)
#define STATE_KEY_FILES   3
#define STATE_DRAIN_GUARD "starts_draining" /* a file in the data folder: see state_starts_draining */

/* The secrets in the data folder that every answer, receipt and kept response depends on. */
extern const char *const state_key_files[STATE_KEY_FILES];

struct state_manifest {
	int64_t created_us;
	char kid[BOX_KID_SIZE]; /* of the sealed transport's key, which is in no file; empty: there is none */
	size_t count;
	struct {
		char name[STATE_NAME_SIZE];
		int64_t bytes;
		char sha256[SHA256_HEX_SIZE];
	} files[STATE_FILES_MAX];
};

void state_manifest_write(const struct state_manifest *manifest, struct buf *out);
/* DB_E_UNSUPPORTED for another format, DB_E_INVALID for a damaged one. Every name begins with one of the two folders and names
 * a file right inside it. */
enum db_err state_manifest_read(struct state_manifest *manifest, struct str text, struct error *error);
/* The place of a name, or -1. */
int state_manifest_find(const struct state_manifest *manifest, struct str name);

#endif
