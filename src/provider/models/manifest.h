/* manifest.json of a model folder: what models.h describes, read, written and checked. Pure. */
#ifndef PROVIDER_MANIFEST_H
#define PROVIDER_MANIFEST_H

#include "core/arena.h"
#include "core/buf.h"
#include "crypto/hash.h"

#define MANIFEST_MAX_FILES  4096
#define MODEL_TEMPLATE_ROLE "template"       /* of a file that replaces the chat template of the weights */
#define MODEL_DRAFT_ROLE    "draft"          /* of a smaller model with the same vocabulary, which guesses ahead */
#define MODEL_PROMPTS_ROLE  "public_prompts" /* of a JSON array of system prompts whose cached states tenants may share */
#define MANIFEST_MAX_BYTES  (4u << 20)
#define MANIFEST_MAX_PATH   512
#define MANIFEST_MAX_SIZE   (INT64_C(1) << 50) /* of a file and of all: sums cannot overflow */

struct manifest_file {
	struct str path; /* as manifest_path_is_good says */
	uint64_t size_bytes;
	char sha256[SHA256_HEX_SIZE];
	struct str role; /* "weight", "config", ... */
};

struct manifest {
	struct str model_id, version, created_at;
	char aggregate_sha256[SHA256_HEX_SIZE];
	uint64_t total_size_bytes;
	struct manifest_file *files; /* in ascending path order */
	size_t file_count;
};

/* Checks everything that can be checked without the files: schema, counts, sums, paths, the aggregate. Texts live in the
 * arena. */
enum db_err manifest_parse(struct str text, struct arena *arena, struct manifest *out, struct error *error);
/* Relative and below its folder: no empty, "." or ".." part, no hidden file, no backslash or control, not the manifest. */
bool manifest_path_is_good(struct str path);
/* Sorts the files, fills total, and aggregate_sha256 from their hashes. */
void manifest_seal(struct manifest *manifest);
enum db_err manifest_write(const struct manifest *manifest, struct buf *out);

/* "Q4_1" of "SmolLM2-135M-Instruct.Q4_1.gguf"; "" when the name says none. */
void manifest_quantization(struct str file_name, char *out, size_t size);

#endif
