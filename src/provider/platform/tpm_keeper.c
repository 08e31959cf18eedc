#include "provider/platform/secret_keeper.h"

struct secret_keeper *tpm_keeper_open(const char *path, const char *tcti, struct error *error)
{
	(void)path;
	(void)tcti;
	error_set(error, DB_E_UNSUPPORTED, "this program was built without tpm2-tss");
	return NULL;
}
