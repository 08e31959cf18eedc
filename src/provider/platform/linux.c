#ifdef __linux__
#include "provider/platform/platform.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "core/encode.h"
#include "crypto/p256.h"
#include "provider/platform/secret_keeper.h"
#include "provider/platform/software_key.h"

/* First line of a small file of /proc or /sys, trimmed; "" when it cannot be read. */
static void first_line(const char *path, char *out, size_t size)
{
	out[0] = '\0';
	FILE *file = fopen(path, "re");
	if (!file)
		return;
	char line[512];
	if (fgets(line, sizeof line, file))
		str_copy(str_sub(str_trim(str_of(line)), 0, size - 1), out, size);
	fclose(file);
}

/* Value of "key: value" or "key value kB" in a file of /proc. */
static bool proc_field(const char *path, const char *key, char *out, size_t size)
{
	FILE *file = fopen(path, "re");
	if (!file)
		return false;
	char line[8192]; /* the CPU flags line is long */
	bool found = false;
	while (!found && fgets(line, sizeof line, file)) {
		struct str name, value = str_cut(str_of(line), ':', &name);
		if (!str_is(str_trim(name), key))
			continue;
		value = str_trim(value);
		str_copy(str_sub(value, 0, size - 1), out, size);
		found = true;
	}
	fclose(file);
	return found;
}

static double meminfo_gb(const char *key)
{
	char text[64];
	struct str number;
	uint64_t kib = 0;
	if (!proc_field("/proc/meminfo", key, text, sizeof text))
		return 0;
	str_cut(str_of(text), ' ', &number);
	str_to_u64(number, &kib);
	return (double)kib / (1024.0 * 1024.0);
}

void platform_os_hardware(struct platform_hardware *out)
{
	char chip[96] = "Unknown";
	struct utsname system;
	proc_field("/proc/cpuinfo", "model name", chip, sizeof chip);
	str_copy(str_of(chip), out->chip_name, sizeof out->chip_name);
	platform_chip_facts(str_of(chip), 0, out);
	first_line("/sys/class/dmi/id/product_name", out->machine_model, sizeof out->machine_model);
	if (!out->machine_model[0])
		str_copy(STR("Linux"), out->machine_model, sizeof out->machine_model);
	first_line("/sys/class/dmi/id/product_serial", out->serial, sizeof out->serial);
	if (uname(&system) == 0)
		str_copy(str_sub(str_of(system.release), 0, sizeof out->os_version - 1), out->os_version, sizeof out->os_version);
	out->memory_gb = (int64_t)(meminfo_gb("MemTotal") + 0.5);
	out->memory_available_gb = meminfo_gb("MemAvailable");
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	out->cpu_total = out->cpu_performance = cpus > 0 ? cpus : 1;
}

static double cpu_usage_since_last(void)
{
	static uint64_t last_busy, last_total; /* of this process's only caller, the loop thread */
	uint64_t at[8] = {0}, busy, total = 0;
	FILE *file = fopen("/proc/stat", "re");
	if (!file)
		return 0;
	char line[512];
	struct str rest = STR_NONE;
	if (fgets(line, sizeof line, file))
		rest = str_trim(str_of(line));
	fclose(file);
	struct str word;
	rest = str_trim(str_cut(rest, ' ', &word));
	for (size_t i = 0; i < 8 && rest.len; i++) {
		rest = str_trim(str_cut(rest, ' ', &word));
		str_to_u64(word, &at[i]);
		total += at[i];
	}
	busy = total - at[3] - at[4]; /* all but idle and iowait */
	double usage = total > last_total ? (double)(busy - last_busy) / (double)(total - last_total) : 0;
	last_busy = busy;
	last_total = total;
	return usage < 0 ? 0 : usage > 1 ? 1 : usage;
}

void platform_metrics(struct platform_metrics *out)
{
	double total = meminfo_gb("MemTotal"), available = meminfo_gb("MemAvailable");
	*out = (struct platform_metrics){
	    .memory_pressure = total > 0 ? 1 - available / total : 0,
	    .cpu_usage = cpu_usage_since_last(),
	    .thermal_state = "nominal",
	    .memory_available_gb = available,
	};
}

const char *const *platform_os_dangerous_env(void)
{
	static const char *const names[] = {"LD_PRELOAD",     "LD_LIBRARY_PATH", "LD_AUDIT",      "LD_DEBUG", "LD_PROFILE",
	                                    "GLIBC_TUNABLES", "MALLOC_TRACE",    "MALLOC_CHECK_", NULL};
	return names;
}

enum db_err platform_os_executable(char *out, size_t size)
{
	ssize_t n = readlink("/proc/self/exe", out, size - 1);
	if (n <= 0)
		return DB_E_IO;
	out[n] = '\0';
	return DB_OK;
}

static bool traced(void)
{
	char text[32];
	uint64_t tracer = 0;
	return proc_field("/proc/self/status", "TracerPid", text, sizeof text) && str_to_u64(str_of(text), &tracer) && tracer != 0;
}

enum db_err platform_os_harden(struct error *error)
{
	/* Not dumpable: no core image, and no other process of this user may attach or read our memory. */
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
		return error_set(error, DB_E_DENIED, "this process could not be closed to debuggers: %s", strerror(errno));
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		return error_set(error, DB_E_DENIED, "new privileges could not be ruled out: %s", strerror(errno));
	if (traced())
		return error_set(error, DB_E_DENIED, "a debugger is attached to this process: a provider does not run under one");
	return DB_OK;
}

static bool efi_secure_boot(void)
{
	FILE *file = fopen("/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c", "re");
	if (!file)
		return false;
	unsigned char bytes[5] = {0}; /* four attribute bytes, then the value */
	size_t n = fread(bytes, 1, sizeof bytes, file);
	fclose(file);
	return n == sizeof bytes && bytes[4] == 1;
}

static bool rdma_present(void)
{
	DIR *folder = opendir("/sys/class/infiniband");
	if (!folder)
		return false;
	bool present = false;
	for (struct dirent *entry; !present && (entry = readdir(folder));)
		present = entry->d_name[0] != '.';
	closedir(folder);
	return present;
}

static bool hypervisor(void)
{
	char flags[8192];
	return proc_field("/proc/cpuinfo", "flags", flags, sizeof flags) && str_contains_nocase(str_of(flags), STR("hypervisor"));
}

void platform_posture(struct platform_posture *out)
{
	struct rlimit core = {1, 1};
	getrlimit(RLIMIT_CORE, &core);
	bool clean = true;
	for (const char *const *name = platform_os_dangerous_env(); *name; name++)
		clean = clean && !getenv(*name);
	*out = (struct platform_posture){
	    .platform = "linux",
	    .secure_boot_enabled = efi_secure_boot(),
	    .rdma_disabled = !rdma_present(),
	    .anti_debug_enabled = prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0 && !traced(),
	    .core_dumps_disabled = core.rlim_max == 0,
	    .env_scrubbed = clean,
	    .hypervisor_active = hypervisor(),
	};
}

struct platform_signer {
	struct p256_key *key;
};

struct platform_signer *platform_signer_open(const char *state_dir, struct error *error)
{
	struct platform_signer *signer = calloc(1, sizeof *signer);
	if (!signer) {
		error_set(error, DB_E_NOMEM, "out of memory");
		return NULL;
	}
	signer->key = software_key_open(state_dir, error);
	if (!signer->key) {
		free(signer);
		return NULL;
	}
	return signer;
}

void platform_signer_free(struct platform_signer *signer)
{
	if (!signer)
		return;
	p256_free(signer->key);
	free(signer);
}

void platform_signer_public(const struct platform_signer *signer, uint8_t xy[64])
{
	p256_public(signer->key, xy);
}

bool platform_signer_is_hardware(const struct platform_signer *signer)
{
	(void)signer;
	return false;
}

enum db_err platform_sign(const struct platform_signer *signer, struct str message, struct buf *out_base64)
{
	return p256_sign_base64(signer->key, message, out_base64);
}

void platform_prevent_sleep(void)
{
	/* Servers and desktops that run a Linux provider manage sleep themselves. */
}

struct secret_keeper *enclave_keeper_open(struct error *error)
{
	error_set(error, DB_E_UNSUPPORTED, "only Macs have a Secure Enclave");
	return NULL;
}

#endif
