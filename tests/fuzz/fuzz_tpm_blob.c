/* The file of a sealed secret: any bytes give two parts inside them, which make the same file again, or a refusal. */
#include <stdlib.h>

#include "provider/platform/tpm_blob.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct tpm_blob blob;
	struct str file = {(const char *)data, size};
	if (tpm_blob_read(file, &blob))
		return 0;
	struct buf again;
	buf_init(&again, size);
	if (tpm_blob_write(&blob, &again) || !str_eq(buf_str(&again), file))
		abort();
	buf_free(&again);
	return 0;
}
