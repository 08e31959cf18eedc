/* Is a GGUF's vocabulary one that the library can load? It ends the process over one that names a token twice, and a file from
 * elsewhere must not take the other models' requests with it. Thread: any; reads the file's metadata. */
#ifndef PROVIDER_ENGINE_VOCABULARY_H
#define PROVIDER_ENGINE_VOCABULARY_H

#include "core/error.h"

/* DB_E_INVALID with the two places where it does. DB_OK for a file that cannot be read too: its loader says why. */
enum db_err engine_vocabulary_check(const char *model_path, struct error *error);

#endif
