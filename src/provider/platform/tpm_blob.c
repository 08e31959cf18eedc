#include "provider/platform/tpm_blob.h"

#include <stdint.h>

#define MAGIC STR("DBTPM001")

enum db_err tpm_blob_write(const struct tpm_blob *blob, struct buf *out)
{
	enum db_err err = buf_append(out, MAGIC.at, MAGIC.len);
	if (!err)
		err = buf_append(out, blob->public_part.at, blob->public_part.len);
	return err ? err : buf_append(out, blob->private_part.at, blob->private_part.len);
}

/* Cuts a sized part off the front. Empty parts are nobody's. */
static bool cut_part(struct str *rest, struct str *part)
{
	if (rest->len < 2)
		return false;
	size_t len = 2 + ((size_t)(uint8_t)rest->at[0] << 8 | (uint8_t)rest->at[1]);
	if (len == 2 || len > rest->len)
		return false;
	*part = str_sub(*rest, 0, len);
	*rest = str_sub(*rest, len, rest->len - len);
	return true;
}

enum db_err tpm_blob_read(struct str file, struct tpm_blob *out)
{
	if (!str_starts(file, MAGIC))
		return DB_E_INVALID;
	struct str rest = str_sub(file, MAGIC.len, file.len - MAGIC.len);
	return cut_part(&rest, &out->public_part) && cut_part(&rest, &out->private_part) && !rest.len ? DB_OK : DB_E_INVALID;
}
