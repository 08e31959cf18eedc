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

/* --- secrets of this device --- */

#define PLATFORM_SECRET_BYTES 32
/* The secret kept under `state_dir` by this name (a file name), made when there is none; of processes that make it at the same
 * time one wins, and all get that one. *sealed: the hardware guards it; false: it lies in a file of mode 0600, and who can read
 * this user's files can read it. The caller wipes it. Blocks. */
enum db_err platform_secret_open(const char *state_dir, const char *name, uint8_t out[PLATFORM_SECRET_BYTES], bool *sealed,
                                 struct error *error);

/* --- files (provider-node 4) --- */

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
