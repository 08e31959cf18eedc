/* What the provider knows of the machine it runs on and asks of it: hardware facts, security posture, a signing key bound to
 * the hardware where that exists, secret files, live metrics, power. One file implements it for each system: linux.c, macos.c;
 * what both share is in common.c. Thread: start-up and the loop's unless a function says otherwise. */
#ifndef PROVIDER_PLATFORM_H
#define PROVIDER_PLATFORM_H

#include "core/buf.h"
#include "core/error.h"
#include "core/str.h"

/* --- hardware (provider-node 8.1) --- */

struct platform_hardware {
	char machine_model[64]; /* "Mac16,6"; on Linux the product name */
	char chip_name[96];     /* "Apple M4 Max"; on Linux the CPU model */
	char chip_family[16];   /* M1..M5 or Unknown */
	char chip_tier[16];     /* Base, Pro, Max, Ultra or Unknown */
	char serial[64];        /* empty when it cannot be read */
	char os_version[32];    /* "15.3.0" */
	int64_t memory_gb;
	double memory_available_gb;
	int64_t cpu_total, cpu_performance, cpu_efficiency, gpu_cores;
	double memory_bandwidth_gbs;
};
void platform_hardware(struct platform_hardware *out);
/* Family, tier and bandwidth from a chip's name (provider-node 8.1); pure, for tests on any system. */
void platform_chip_facts(struct str chip_name, int64_t gpu_cores, struct platform_hardware *out);

struct platform_metrics {
	double memory_pressure, cpu_usage; /* 0..1 */
	const char *thermal_state;         /* nominal, fair, serious, critical */
	double memory_available_gb;
};
void platform_metrics(struct platform_metrics *out); /* cpu_usage since the previous call */

/* --- hardening and posture (provider-node 10) --- */

/* First thing in main of a process that will hold prompts: no core dumps, no debugger, a clean environment (the process is
 * started again once with dangerous variables removed). argv is for that. On failure the process must not go on. */
enum db_err platform_harden(char **argv, struct error *error);

struct platform_posture {
	const char *platform; /* "linux", "macos" */
	bool sip_enabled;     /* never claimed on Linux */
	bool secure_boot_enabled;
	bool authenticated_root_enabled;
	bool secure_enclave_available;
	bool rdma_disabled;
	bool anti_debug_enabled;
	bool core_dumps_disabled;
	bool env_scrubbed;
	bool hypervisor_active;
	char system_volume_hash[160]; /* empty when unknown */
};
void platform_posture(struct platform_posture *out); /* measured now; may take tens of milliseconds: worker threads */
/* SHA-256 of the running executable, lower-case hex; cached after the first call. */
enum db_err platform_self_hash(char out[65], struct error *error);

/* --- signing key --- */

struct platform_signer; /* P-256; in the Secure Enclave on a Mac, a software key in a 0600 file on Linux */

/* Opens the key kept under `state_dir`, or makes one. Blocks. */
struct platform_signer *platform_signer_open(const char *state_dir, struct error *error);
void platform_signer_free(struct platform_signer *signer);
void platform_signer_public(const struct platform_signer *signer, uint8_t xy[64]);
/* True when the private key cannot leave the hardware: what the attestation's key_protection must say. */
bool platform_signer_is_hardware(const struct platform_signer *signer);
/* DER signature over SHA-256(message), appended as base64. Any thread. */
enum db_err platform_sign(const struct platform_signer *signer, struct str message, struct buf *out_base64);

/* --- secrets of this device (inference 11.2) --- */

#define PLATFORM_SECRET_BYTES 32

/* What guards a secret. */
enum platform_keeper {
	PLATFORM_KEEPER_FILE,           /* a file of mode 0600, no more: who can read this user's files has it */
	PLATFORM_KEEPER_MEMORY,         /* nothing keeps it: it is gone with the process */
	PLATFORM_KEEPER_TPM,            /* sealed by this machine's TPM 2.0 */
	PLATFORM_KEEPER_SECURE_ENCLAVE, /* sealed to a key of this Mac's Secure Enclave */
};
const char *platform_keeper_name(enum platform_keeper keeper); /* "file", "memory", "tpm", "secure_enclave" */
bool platform_keeper_is_secure(enum platform_keeper keeper);   /* the hardware guards it */

/* Which of them is wanted. All but AUTO are refused where they cannot be had. */
enum platform_secret_choice {
	PLATFORM_SECRET_AUTO,   /* the hardware where it can, else a file */
	PLATFORM_SECRET_SECURE, /* the hardware, whichever */
	PLATFORM_SECRET_SECURE_ENCLAVE,
	PLATFORM_SECRET_TPM,
	PLATFORM_SECRET_FILE,
	PLATFORM_SECRET_MEMORY,
};

struct platform_secret_options {
	const char *state_dir, *name; /* name: a file name, unique in the folder */
	enum platform_secret_choice choice;
	const char *tpm; /* the way to the TPM in tpm2-tss's words; NULL or "": the kernel's, device:/dev/tpmrm0 */
};

struct platform_secret {
	uint8_t bytes[PLATFORM_SECRET_BYTES];
	enum platform_keeper kept;
	enum {
		PLATFORM_SECRET_FOUND,
		PLATFORM_SECRET_MADE,
		PLATFORM_SECRET_ADOPTED, /* it lay in a file before, which is erased */
		PLATFORM_SECRET_RENEWED, /* what was sealed could not be opened by this device: made anew */
	} origin;
	char why[320]; /* in a file: why the hardware does not guard it; renewed: why what was there is lost; else empty */
};

/* The secret of this name, made when there is none; of processes that make it at the same time one wins, and all get that one.
 * In locked memory, wiped when freed. DB_E_INVALID when a file in the clear is damaged, DB_E_UNSUPPORTED or another when the
 * choice cannot be had. Blocks; a TPM may take a second. */
struct platform_secret *platform_secret_open(const struct platform_secret_options *options, struct error *error);
void platform_secret_free(struct platform_secret *secret); /* NULL allowed */

/* --- files (provider-node 4) --- */

/* Makes the folders above `path`, with mode 0700. */
enum db_err platform_make_parents(const char *path, struct error *error);
/* Writes a file of mode 0600 by temporary file and rename. Parent folders are made with mode 0700. */
enum db_err platform_write_private(const char *path, struct str content, struct error *error);
/* Reads a whole file of at most max bytes into the empty buffer out (wiped by buf_free). DB_E_NOT_FOUND when it does not exist.
 */
enum db_err platform_read_file(const char *path, size_t max, struct buf *out, struct error *error);
/* Joins the user's home folder and a relative path; `out` gets "" when it does not fit. */
void platform_home_path(const char *relative, char *out, size_t size);

/* --- power --- */

/* Keeps the machine awake until the process ends. Best effort. */
void platform_prevent_sleep(void);

/* --- for linux.c and macos.c; common.c calls them --- */
void platform_os_hardware(struct platform_hardware *out);
enum db_err platform_os_harden(struct error *error);
const char *const *platform_os_dangerous_env(void); /* NULL-terminated */
enum db_err platform_os_executable(char *out, size_t size);

#endif
