/* A secret sealed by this machine's TPM 2.0, through tpm2-tss. Its libraries are looked for when they are needed, so that the
 * program runs where there are none; without their headers (DB_TSS2 is not defined) it is built without. */
#include "provider/platform/secret_keeper.h"

#ifdef DB_TSS2
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <tss2/tss2_esys.h>
#include <tss2/tss2_mu.h>
#include <tss2/tss2_tctildr.h>
#include <unistd.h>

#include "crypto/secret.h"
#include "provider/platform/tpm_blob.h"

#define KERNEL_TPM "/dev/tpmrm0" /* behind the kernel's resource manager, which lets programs share it */

/* --- the libraries --- */

#define CALLS(CALL)                                                                                                            \
	CALL(loader, Tss2_TctiLdr_Initialize)                                                                                      \
	CALL(loader, Tss2_TctiLdr_Finalize)                                                                                        \
	CALL(esys, Esys_Initialize)                                                                                                \
	CALL(esys, Esys_Finalize)                                                                                                  \
	CALL(esys, Esys_CreatePrimary)                                                                                             \
	CALL(esys, Esys_StartAuthSession)                                                                                          \
	CALL(esys, Esys_TRSess_SetAttributes)                                                                                      \
	CALL(esys, Esys_Create)                                                                                                    \
	CALL(esys, Esys_Load)                                                                                                      \
	CALL(esys, Esys_Unseal)                                                                                                    \
	CALL(esys, Esys_FlushContext)                                                                                              \
	CALL(esys, Esys_Free)                                                                                                      \
	CALL(mu, Tss2_MU_TPM2B_PUBLIC_Marshal)                                                                                     \
	CALL(mu, Tss2_MU_TPM2B_PUBLIC_Unmarshal)                                                                                   \
	CALL(mu, Tss2_MU_TPM2B_PRIVATE_Marshal)                                                                                    \
	CALL(mu, Tss2_MU_TPM2B_PRIVATE_Unmarshal)

struct calls {
#define DECLARE(library, name) __typeof__(&name) name;
	CALLS(DECLARE)
#undef DECLARE
};

/* They stay for the process's life: unloading gains nothing. */
static bool load_calls(struct calls *out)
{
	setenv("TSS2_LOG", "all+none", 0); /* our log has its own lines */
	void *loader = dlopen("libtss2-tctildr.so.0", RTLD_NOW | RTLD_LOCAL),
	     *esys = dlopen("libtss2-esys.so.0", RTLD_NOW | RTLD_LOCAL), *mu = dlopen("libtss2-mu.so.0", RTLD_NOW | RTLD_LOCAL),
	     *at = NULL;
	if (!loader || !esys || !mu)
		return false;
#define FIND(library, name)                                                                                                    \
	at = dlsym(library, #name);                                                                                                \
	if (!at)                                                                                                                   \
		return false;                                                                                                          \
	memcpy(&out->name, &at, sizeof at);
	CALLS(FIND)
#undef FIND
	return true;
}

struct tpm_keeper {
	struct secret_keeper base;
	struct calls tss;
	TSS2_TCTI_CONTEXT *tcti;
	ESYS_CONTEXT *esys;
	ESYS_TR parent;
	char path[4096];
};

/* For good: the TPM looked at it and said no, or the library could not make a command of it. What the way to the TPM or a TPM
 * that is busy, locked or out of room says may be otherwise in a minute. */
static bool is_for_good(TSS2_RC rc)
{
	switch (rc & TSS2_RC_LAYER_MASK) {
	case TSS2_TPM_RC_LAYER:
		return (rc & TPM2_RC_FMT1) != 0;
	case TSS2_MU_RC_LAYER:
		return true;
	case TSS2_ESAPI_RC_LAYER:
	case TSS2_SYS_RC_LAYER:
		return (rc & 0xffff) == TSS2_BASE_RC_BAD_VALUE || (rc & 0xffff) == TSS2_BASE_RC_BAD_SIZE;
	default:
		return false;
	}
}

static enum db_err refused(TSS2_RC rc, const char *what, struct error *error)
{
	if (is_for_good(rc))
		return error_set(error, DB_E_CRYPTO, "what lies on disk was not sealed by this machine's TPM, or is damaged (0x%x)",
		                 rc);
	return error_set(error, DB_E_IO, "the TPM did not %s (0x%x)", what, rc);
}

/* --- under which key, and in which words --- */

/* The storage key of TCG's provisioning guidance, made anew from the TPM's own seed each time: the same key until the TPM is
 * cleared, and nothing of it is kept anywhere. */
static TSS2_RC make_parent(struct tpm_keeper *keeper)
{
	static const TPM2B_SENSITIVE_CREATE no_password;
	static const TPM2B_DATA nothing;
	static const TPML_PCR_SELECTION no_registers;
	TPM2B_PUBLIC template = {
	    .publicArea = {
	        .type = TPM2_ALG_ECC,
	        .nameAlg = TPM2_ALG_SHA256,
	        .objectAttributes = TPMA_OBJECT_FIXEDTPM | TPMA_OBJECT_FIXEDPARENT | TPMA_OBJECT_SENSITIVEDATAORIGIN |
	                            TPMA_OBJECT_USERWITHAUTH | TPMA_OBJECT_NODA | TPMA_OBJECT_RESTRICTED | TPMA_OBJECT_DECRYPT,
	        .parameters.eccDetail = {.symmetric = {.algorithm = TPM2_ALG_AES, .keyBits.aes = 128, .mode.aes = TPM2_ALG_CFB},
	                                 .scheme.scheme = TPM2_ALG_NULL,
	                                 .curveID = TPM2_ECC_NIST_P256,
	                                 .kdf.scheme = TPM2_ALG_NULL},
	        .unique.ecc = {.x.size = 32, .y.size = 32}}};
	return keeper->tss.Esys_CreatePrimary(keeper->esys, ESYS_TR_RH_OWNER, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE,
	                                      &no_password, &template, &nothing, &no_registers, &keeper->parent, NULL, NULL, NULL,
	                                      NULL);
}

/* A session salted to the storage key: who listens on the wires between processor and TPM does not see the secret. */
static TSS2_RC open_session(struct tpm_keeper *keeper, ESYS_TR *session)
{
	const TPMT_SYM_DEF cipher = {.algorithm = TPM2_ALG_AES, .keyBits.aes = 128, .mode.aes = TPM2_ALG_CFB};
	const TPMA_SESSION attributes = TPMA_SESSION_CONTINUESESSION | TPMA_SESSION_DECRYPT | TPMA_SESSION_ENCRYPT;
	*session = ESYS_TR_NONE;
	TSS2_RC rc = keeper->tss.Esys_StartAuthSession(keeper->esys, keeper->parent, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE,
	                                               ESYS_TR_NONE, NULL, TPM2_SE_HMAC, &cipher, TPM2_ALG_SHA256, session);
	return rc ? rc : keeper->tss.Esys_TRSess_SetAttributes(keeper->esys, *session, attributes, 0xff);
}

static void flush(struct tpm_keeper *keeper, ESYS_TR handle)
{
	if (handle != ESYS_TR_NONE)
		keeper->tss.Esys_FlushContext(keeper->esys, handle);
}

/* --- sealing --- */

static enum db_err put_blob(struct tpm_keeper *keeper, const TPM2B_PUBLIC *public_part, const TPM2B_PRIVATE *private_part,
                            struct buf *blob)
{
	uint8_t first[sizeof *public_part], second[sizeof *private_part];
	size_t first_len = 0, second_len = 0;
	if (keeper->tss.Tss2_MU_TPM2B_PUBLIC_Marshal(public_part, first, sizeof first, &first_len) ||
	    keeper->tss.Tss2_MU_TPM2B_PRIVATE_Marshal(private_part, second, sizeof second, &second_len))
		return DB_E_INTERNAL;
	struct tpm_blob parts = {{(const char *)first, first_len}, {(const char *)second, second_len}};
	return tpm_blob_write(&parts, blob);
}

/* No platform registers: they change with the firmware, the boot loader and the kernel, and each update would cost the cache.
 */
static enum db_err tpm_wrap(struct secret_keeper *base, const uint8_t secret[PLATFORM_SECRET_BYTES], struct buf *blob,
                            struct error *error)
{
	struct tpm_keeper *keeper = (struct tpm_keeper *)base;
	static const TPM2B_DATA nothing;
	static const TPML_PCR_SELECTION no_registers;
	const TPM2B_PUBLIC template = {.publicArea = {.type = TPM2_ALG_KEYEDHASH,
	                                              .nameAlg = TPM2_ALG_SHA256,
	                                              .objectAttributes = TPMA_OBJECT_FIXEDTPM | TPMA_OBJECT_FIXEDPARENT |
	                                                                  TPMA_OBJECT_USERWITHAUTH | TPMA_OBJECT_NODA,
	                                              .parameters.keyedHashDetail.scheme.scheme = TPM2_ALG_NULL}};
	TPM2B_SENSITIVE_CREATE sensitive = {.sensitive.data.size = PLATFORM_SECRET_BYTES};
	TPM2B_PRIVATE *private_part = NULL;
	TPM2B_PUBLIC *public_part = NULL;
	ESYS_TR session;
	memcpy(sensitive.sensitive.data.buffer, secret, PLATFORM_SECRET_BYTES);
	TSS2_RC rc = open_session(keeper, &session);
	if (!rc)
		rc = keeper->tss.Esys_Create(keeper->esys, keeper->parent, session, ESYS_TR_NONE, ESYS_TR_NONE, &sensitive, &template,
		                             &nothing, &no_registers, &private_part, &public_part, NULL, NULL, NULL);
	secret_wipe(&sensitive, sizeof sensitive);
	flush(keeper, session);
	enum db_err err = rc ? DB_E_IO : put_blob(keeper, public_part, private_part, blob);
	keeper->tss.Esys_Free(private_part);
	keeper->tss.Esys_Free(public_part);
	return err ? error_set(error, err, "the TPM did not seal the secret (0x%x)", rc) : DB_OK;
}

static bool get_blob(struct tpm_keeper *keeper, struct str blob, TPM2B_PUBLIC *public_part, TPM2B_PRIVATE *private_part)
{
	struct tpm_blob parts;
	size_t first = 0, second = 0;
	return tpm_blob_read(blob, &parts) == DB_OK &&
	       keeper->tss.Tss2_MU_TPM2B_PUBLIC_Unmarshal((const uint8_t *)parts.public_part.at, parts.public_part.len, &first,
	                                                  public_part) == TSS2_RC_SUCCESS &&
	       keeper->tss.Tss2_MU_TPM2B_PRIVATE_Unmarshal((const uint8_t *)parts.private_part.at, parts.private_part.len, &second,
	                                                   private_part) == TSS2_RC_SUCCESS &&
	       first == parts.public_part.len && second == parts.private_part.len &&
	       public_part->publicArea.type == TPM2_ALG_KEYEDHASH;
}

static TSS2_RC unseal(struct tpm_keeper *keeper, const TPM2B_PUBLIC *public_part, const TPM2B_PRIVATE *private_part,
                      TPM2B_SENSITIVE_DATA **data)
{
	ESYS_TR session, object = ESYS_TR_NONE;
	TSS2_RC rc = open_session(keeper, &session);
	if (!rc)
		rc = keeper->tss.Esys_Load(keeper->esys, keeper->parent, session, ESYS_TR_NONE, ESYS_TR_NONE, private_part, public_part,
		                           &object);
	if (!rc)
		rc = keeper->tss.Esys_Unseal(keeper->esys, object, session, ESYS_TR_NONE, ESYS_TR_NONE, data);
	flush(keeper, object);
	flush(keeper, session);
	return rc;
}

static enum db_err tpm_unwrap(struct secret_keeper *base, struct str blob, uint8_t secret[PLATFORM_SECRET_BYTES],
                              struct error *error)
{
	struct tpm_keeper *keeper = (struct tpm_keeper *)base;
	TPM2B_PUBLIC public_part = {0};
	TPM2B_PRIVATE private_part = {0};
	TPM2B_SENSITIVE_DATA *data = NULL;
	if (!get_blob(keeper, blob, &public_part, &private_part))
		return error_set(error, DB_E_CRYPTO, "%s is torn, or not a secret that a TPM sealed", keeper->path);
	TSS2_RC rc = unseal(keeper, &public_part, &private_part, &data);
	if (rc)
		return refused(rc, "open the secret", error);
	enum db_err err = DB_OK;
	if (data->size == PLATFORM_SECRET_BYTES)
		memcpy(secret, data->buffer, PLATFORM_SECRET_BYTES);
	else
		err = error_set(error, DB_E_CRYPTO, "%s holds something else than a secret", keeper->path);
	secret_wipe(data, sizeof *data);
	keeper->tss.Esys_Free(data);
	return err;
}

/* --- its file --- */

static enum db_err tpm_load(struct secret_keeper *base, struct buf *blob, struct error *error)
{
	struct tpm_keeper *keeper = (struct tpm_keeper *)base;
	enum db_err err = platform_read_file(keeper->path, KEEPER_BLOB_MAX, blob, error);
	return err == DB_E_LIMIT ? error_set(error, DB_E_CRYPTO, "%s is no secret that a TPM sealed", keeper->path) : err;
}

static enum db_err tpm_save(struct secret_keeper *base, struct str blob, struct error *error)
{
	return secret_file_create(((struct tpm_keeper *)base)->path, blob, error);
}

static enum db_err tpm_discard(struct secret_keeper *base, struct error *error)
{
	return secret_file_erase(((struct tpm_keeper *)base)->path, error);
}

/* --- opening --- */

static void tpm_close(struct secret_keeper *base)
{
	struct tpm_keeper *keeper = (struct tpm_keeper *)base;
	if (keeper->esys) {
		flush(keeper, keeper->parent);
		keeper->tss.Esys_Finalize(&keeper->esys);
	}
	if (keeper->tcti)
		keeper->tss.Tss2_TctiLdr_Finalize(&keeper->tcti);
	free(keeper);
}

static enum db_err check_kernel_tpm(struct error *error)
{
	if (access(KERNEL_TPM, R_OK | W_OK) == 0)
		return DB_OK;
	if (errno == ENOENT)
		return error_set(error, DB_E_UNSUPPORTED, "this machine has no TPM 2.0 (" KERNEL_TPM ")");
	return error_set(error, DB_E_DENIED,
	                 "this user may not use the TPM (" KERNEL_TPM "): add it to the group that may, mostly `tss`");
}

static enum db_err tpm_begin(struct tpm_keeper *keeper, const char *tcti, struct error *error)
{
	bool kernel = !tcti || !tcti[0];
	enum db_err err = kernel ? check_kernel_tpm(error) : DB_OK;
	if (err)
		return err;
	if (!load_calls(&keeper->tss))
		return error_set(error, DB_E_UNSUPPORTED,
		                 "tpm2-tss is missing: install its libraries (libtss2-esys, libtss2-mu and libtss2-tctildr)");
	TSS2_RC rc = keeper->tss.Tss2_TctiLdr_Initialize(kernel ? "device:" KERNEL_TPM : tcti, &keeper->tcti);
	if (rc)
		return error_set(error, DB_E_IO, "the TPM could not be reached by %s (0x%x)", kernel ? "device:" KERNEL_TPM : tcti, rc);
	rc = keeper->tss.Esys_Initialize(&keeper->esys, keeper->tcti, NULL);
	if (!rc)
		rc = make_parent(keeper);
	return rc ? error_set(error, DB_E_IO, "the TPM did not make its storage key (0x%x); its owner must have no password", rc)
	          : DB_OK;
}

struct secret_keeper *tpm_keeper_open(const char *path, const char *tcti, struct error *error)
{
	static const struct secret_keeper_ops ops = {.kind = PLATFORM_KEEPER_TPM,
	                                             .wrap = tpm_wrap,
	                                             .unwrap = tpm_unwrap,
	                                             .load = tpm_load,
	                                             .save = tpm_save,
	                                             .discard = tpm_discard,
	                                             .close = tpm_close};
	struct tpm_keeper *keeper = calloc(1, sizeof *keeper);
	if (!keeper) {
		error_set(error, DB_E_NOMEM, "out of memory");
		return NULL;
	}
	keeper->base.ops = &ops;
	keeper->parent = ESYS_TR_NONE;
	enum db_err err = str_copy(str_of(path), keeper->path, sizeof keeper->path)
	                      ? tpm_begin(keeper, tcti, error)
	                      : error_set(error, DB_E_LIMIT, "the state folder's path is too long");
	if (!err)
		return &keeper->base;
	tpm_close(&keeper->base);
	return NULL;
}

#else

struct secret_keeper *tpm_keeper_open(const char *path, const char *tcti, struct error *error)
{
	(void)path;
	(void)tcti;
	error_set(error, DB_E_UNSUPPORTED, "this program was built without tpm2-tss");
	return NULL;
}

#endif
