/* The file of a secret that a TPM sealed: `DBTPM001`, TPM2B_PUBLIC, TPM2B_PRIVATE, each as the TPM writes it (a 16-bit
 * big-endian size and so many bytes). The bytes are outside ones: anyone may have written the file. Thread: any. */
#ifndef PROVIDER_TPM_BLOB_H
#define PROVIDER_TPM_BLOB_H

#include "core/buf.h"
#include "core/error.h"
#include "core/str.h"

/* Both with their sizes. Borrowed from what was read. */
struct tpm_blob {
	struct str public_part, private_part;
};

enum db_err tpm_blob_write(const struct tpm_blob *blob, struct buf *out);
/* DB_E_INVALID unless the parts fill the file to the last byte. */
enum db_err tpm_blob_read(struct str file, struct tpm_blob *out);

#endif
