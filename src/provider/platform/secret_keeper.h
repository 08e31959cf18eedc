/* What seals a device's secret: the Secure Enclave, a TPM. A keeper turns the secret into a blob that is of no use on another
 * machine, and keeps that blob. Of platform/ only; others use platform_secret_open. Thread: one keeper, one thread at a time.
 */
#ifndef PROVIDER_SECRET_KEEPER_H
#define PROVIDER_SECRET_KEEPER_H

#include "provider/platform/platform.h"

#define KEEPER_BLOB_MAX 4096

struct secret_keeper;

struct secret_keeper_ops {
	enum platform_keeper kind;
	/* Appends the blob. */
	enum db_err (*wrap)(struct secret_keeper *keeper, const uint8_t secret[PLATFORM_SECRET_BYTES], struct buf *blob,
	                    struct error *error);
	/* DB_E_CRYPTO: damaged, or sealed by another device, for good. Any other error: it may open another time. */
	enum db_err (*unwrap)(struct secret_keeper *keeper, struct str blob, uint8_t secret[PLATFORM_SECRET_BYTES],
	                      struct error *error);
	/* Of the blob's own place. load: DB_E_NOT_FOUND; save never replaces: DB_E_EXISTS when one is there. */
	enum db_err (*load)(struct secret_keeper *keeper, struct buf *blob, struct error *error);
	enum db_err (*save)(struct secret_keeper *keeper, struct str blob, struct error *error);
	enum db_err (*discard)(struct secret_keeper *keeper, struct error *error);
	void (*close)(struct secret_keeper *keeper);
};

/* Each kind's struct begins with it. */
struct secret_keeper {
	const struct secret_keeper_ops *ops;
};

/* NULL with a sentence where it cannot be had. `tcti`: platform_secret_options.tpm. The blob lies at `path`. */
struct secret_keeper *tpm_keeper_open(const char *path, const char *tcti, struct error *error);
struct secret_keeper *enclave_keeper_open(struct error *error);

/* The keeper's secret: found, adopted from the file in the clear at `plain_path` (which is overwritten and removed), or new.
 * The caller keeps other processes of this folder out. */
enum db_err secret_keep(struct secret_keeper *keeper, const char *plain_path, struct platform_secret *out, struct error *error);

/* A file of mode 0600 that appears whole or not at all, and never in place of one that is there: DB_E_EXISTS. */
enum db_err secret_file_create(const char *path, struct str content, struct error *error);
/* Overwrites and removes. The flash below may keep a copy all the same. */
enum db_err secret_file_erase(const char *path, struct error *error);

#endif
