#ifdef __APPLE__
#include "provider/platform/platform.h"

#include <CoreFoundation/CoreFoundation.h>
#include <IOKit/IOKitLib.h>
#include <IOKit/pwr_mgt/IOPMLib.h>
#include <Security/Security.h>
#include <errno.h>
#include <mach-o/dyld.h>
#include <mach/mach.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/sysctl.h>
#include <sys/types.h>
#include <unistd.h>

#include "core/encode.h"
#include "crypto/p256.h"
#include "provider/platform/macos_enclave.h"
#include "provider/platform/software_key.h"

#define GIB (1024.0 * 1024.0 * 1024.0)

/* --- hardware --- */

static void sysctl_text(const char *name, char *out, size_t size)
{
	size_t len = size;
	if (sysctlbyname(name, out, &len, NULL, 0) != 0 || len == 0)
		out[0] = '\0';
	out[size - 1] = '\0';
}

static int64_t sysctl_number(const char *name)
{
	int64_t value = 0;
	size_t len = sizeof value;
	if (sysctlbyname(name, &value, &len, NULL, 0) != 0)
		return 0;
	return len == sizeof(int32_t) ? (int64_t) * (int32_t *)(void *)&value : value;
}

/* A property of the first I/O registry entry of a class; the caller releases it. */
static CFTypeRef registry_property(const char *class_name, const char *key)
{
	io_service_t service = IOServiceGetMatchingService(kIOMainPortDefault, IOServiceMatching(class_name));
	if (!service)
		return NULL;
	CFStringRef name = CFStringCreateWithCString(NULL, key, kCFStringEncodingUTF8);
	CFTypeRef value = name ? IORegistryEntryCreateCFProperty(service, name, NULL, 0) : NULL;
	if (name)
		CFRelease(name);
	IOObjectRelease(service);
	return value;
}

static void serial_number(char *out, size_t size)
{
	out[0] = '\0';
	CFTypeRef value = registry_property("IOPlatformExpertDevice", "IOPlatformSerialNumber");
	if (!value)
		return;
	if (CFGetTypeID(value) == CFStringGetTypeID())
		CFStringGetCString((CFStringRef)value, out, (CFIndex)size, kCFStringEncodingUTF8);
	CFRelease(value);
}

static int64_t gpu_core_count(void)
{
	int64_t cores = 0;
	CFTypeRef value = registry_property("AGXAccelerator", "gpu-core-count");
	if (!value)
		return 0;
	if (CFGetTypeID(value) == CFNumberGetTypeID())
		CFNumberGetValue((CFNumberRef)value, kCFNumberSInt64Type, &cores);
	CFRelease(value);
	return cores;
}

/* Free plus inactive pages; speculative pages are inside free already (provider-node 8.2). */
static double available_gb(void)
{
	vm_statistics64_data_t statistics;
	mach_msg_type_number_t count = HOST_VM_INFO64_COUNT;
	if (host_statistics64(mach_host_self(), HOST_VM_INFO64, (host_info64_t)&statistics, &count) != KERN_SUCCESS)
		return 0;
	return ((double)statistics.free_count + (double)statistics.inactive_count) * (double)getpagesize() / GIB;
}

void platform_os_hardware(struct platform_hardware *out)
{
	sysctl_text("machdep.cpu.brand_string", out->chip_name, sizeof out->chip_name);
	sysctl_text("hw.model", out->machine_model, sizeof out->machine_model);
	sysctl_text("kern.osproductversion", out->os_version, sizeof out->os_version);
	serial_number(out->serial, sizeof out->serial);
	platform_chip_facts(str_of(out->chip_name), gpu_core_count(), out);
	out->memory_gb = sysctl_number("hw.memsize") >> 30;
	out->memory_available_gb = available_gb();
	out->cpu_total = sysctl_number("hw.ncpu");
	out->cpu_performance = sysctl_number("hw.perflevel0.physicalcpu");
	out->cpu_efficiency = sysctl_number("hw.perflevel1.physicalcpu");
}

static double cpu_usage_since_last(void)
{
	static uint64_t last_busy, last_total; /* of this process's only caller, the loop thread */
	host_cpu_load_info_data_t load;
	mach_msg_type_number_t count = HOST_CPU_LOAD_INFO_COUNT;
	if (host_statistics(mach_host_self(), HOST_CPU_LOAD_INFO, (host_info_t)&load, &count) != KERN_SUCCESS)
		return 0;
	uint64_t busy =
	    (uint64_t)load.cpu_ticks[CPU_STATE_USER] + load.cpu_ticks[CPU_STATE_SYSTEM] + load.cpu_ticks[CPU_STATE_NICE];
	uint64_t total = busy + load.cpu_ticks[CPU_STATE_IDLE];
	double usage = total > last_total ? (double)(busy - last_busy) / (double)(total - last_total) : 0;
	last_busy = busy;
	last_total = total;
	return usage < 0 ? 0 : usage > 1 ? 1 : usage;
}

void platform_metrics(struct platform_metrics *out)
{
	/* kern.memorystatus_vm_pressure_level: 1 normal, 2 warning, 4 critical */
	int64_t level = sysctl_number("kern.memorystatus_vm_pressure_level");
	double total = (double)sysctl_number("hw.memsize") / GIB, available = available_gb();
	double used = total > 0 ? 1 - available / total : 0;
	*out = (struct platform_metrics){
	    .memory_pressure = level >= 4                  ? 1
	                       : level >= 2 && used < 0.85 ? 0.85
	                                                   : used,
	    .cpu_usage = cpu_usage_since_last(),
	    .thermal_state = "nominal",
	    .memory_available_gb = available,
	};
	int64_t limit = sysctl_number("machdep.xcpm.cpu_thermal_level"); /* 0 when absent or cool */
	if (limit > 0)
		out->thermal_state = limit >= 90 ? "critical" : limit >= 60 ? "serious" : "fair";
}

/* --- hardening and posture --- */

const char *const *platform_os_dangerous_env(void)
{
	static const char *const names[] = {"DYLD_INSERT_LIBRARIES", "DYLD_LIBRARY_PATH",
	                                    "DYLD_FRAMEWORK_PATH",   "LD_PRELOAD",
	                                    "MallocStackLogging",    "MallocStackLoggingNoCompact",
	                                    "MallocScribble",        "MallocGuardEdges",
	                                    "MallocLogFile",         "MallocErrorAbort",
	                                    "NSZombieEnabled",       "OBJC_DEBUG_POOL_ALLOCATION",
	                                    "CFNETWORK_DIAGNOSTICS", NULL};
	return names;
}

enum db_err platform_os_executable(char *out, size_t size)
{
	uint32_t len = (uint32_t)size;
	return _NSGetExecutablePath(out, &len) == 0 ? DB_OK : DB_E_LIMIT;
}

static bool traced(void)
{
	struct kinfo_proc info = {0};
	size_t len = sizeof info;
	int name[] = {CTL_KERN, KERN_PROC, KERN_PROC_PID, getpid()};
	return sysctl(name, 4, &info, &len, NULL, 0) == 0 && (info.kp_proc.p_flag & P_TRACED) != 0;
}

/* Bits of the System Integrity Protection configuration; the function is exported by libSystem. */
extern int csr_get_active_config(uint32_t *config);
#define CSR_ALLOW_UNAUTHENTICATED_ROOT (1u << 11)

static bool csr_config(uint32_t *config)
{
	return csr_get_active_config(config) == 0;
}

enum db_err platform_os_harden(struct error *error)
{
	if (ptrace(PT_DENY_ATTACH, 0, NULL, 0) != 0 && traced())
		return error_set(error, DB_E_DENIED, "a debugger is attached to this process: a provider does not run under one");
	return DB_OK;
}

/* True when a command's output holds `needle`; false also when the command is missing. */
static bool command_says(const char *command, struct str needle, bool *ran)
{
	char text[512];
	FILE *pipe = popen(command, "r");
	size_t n = pipe ? fread(text, 1, sizeof text, pipe) : 0;
	*ran = pipe && pclose(pipe) == 0;
	return str_contains_nocase((struct str){text, n}, needle);
}

static bool rdma_disabled(void)
{
	bool ran;
	bool disabled = command_says("/usr/bin/rdma_ctl status 2>/dev/null", STR("disabled"), &ran);
	return !ran || disabled; /* without the tool there is no RDMA over Thunderbolt */
}

void platform_posture(struct platform_posture *out)
{
	uint32_t config = UINT32_MAX;
	bool known = csr_config(&config);
	struct rlimit core = {1, 1};
	getrlimit(RLIMIT_CORE, &core);
	bool clean = true;
	for (const char *const *name = platform_os_dangerous_env(); *name; name++)
		clean = clean && !getenv(*name);
	bool sealed = known && !(config & CSR_ALLOW_UNAUTHENTICATED_ROOT);
	*out = (struct platform_posture){
	    .platform = "macos",
	    .sip_enabled = known && config == 0,
	    .secure_boot_enabled = sealed,
	    .authenticated_root_enabled = sealed,
	    .secure_enclave_available = sysctl_number("hw.optional.arm64") != 0,
	    .rdma_disabled = rdma_disabled(),
	    .anti_debug_enabled = !traced(),
	    .core_dumps_disabled = core.rlim_max == 0,
	    .env_scrubbed = clean,
	    .hypervisor_active = sysctl_number("kern.hv_vmm_present") != 0,
	};
}

/* --- signing key: in the Secure Enclave; a software key only where the keychain refuses (unsigned development builds) --- */

struct platform_signer {
	SecKeyRef enclave_key; /* NULL = software */
	struct p256_key *software;
	uint8_t public_key[64];
};

static bool enclave_public(SecKeyRef key, uint8_t xy[64])
{
	bool ok = false;
	SecKeyRef public_key = SecKeyCopyPublicKey(key);
	CFDataRef data = public_key ? SecKeyCopyExternalRepresentation(public_key, NULL) : NULL;
	if (data && CFDataGetLength(data) == 65 && CFDataGetBytePtr(data)[0] == 4) {
		memcpy(xy, CFDataGetBytePtr(data) + 1, 64);
		ok = true;
	}
	if (data)
		CFRelease(data);
	if (public_key)
		CFRelease(public_key);
	return ok;
}

struct platform_signer *platform_signer_open(const char *state_dir, struct error *error)
{
	struct platform_signer *signer = calloc(1, sizeof *signer);
	if (!signer) {
		error_set(error, DB_E_NOMEM, "out of memory");
		return NULL;
	}
	signer->enclave_key = macos_enclave_key(STR("io.darkbloom.provider.attestation"));
	if (signer->enclave_key && enclave_public(signer->enclave_key, signer->public_key))
		return signer;
	signer->software = software_key_open(state_dir, error);
	if (!signer->software) {
		platform_signer_free(signer);
		return NULL;
	}
	p256_public(signer->software, signer->public_key);
	return signer;
}

void platform_signer_free(struct platform_signer *signer)
{
	if (!signer)
		return;
	if (signer->enclave_key)
		CFRelease(signer->enclave_key);
	p256_free(signer->software);
	free(signer);
}

void platform_signer_public(const struct platform_signer *signer, uint8_t xy[64])
{
	memcpy(xy, signer->public_key, 64);
}

bool platform_signer_is_hardware(const struct platform_signer *signer)
{
	return signer->software == NULL;
}

enum db_err platform_sign(const struct platform_signer *signer, struct str message, struct buf *out_base64)
{
	if (signer->software)
		return p256_sign_base64(signer->software, message, out_base64);
	enum db_err err = DB_E_CRYPTO;
	CFDataRef data = CFDataCreate(NULL, (const UInt8 *)message.at, (CFIndex)message.len);
	CFDataRef der =
	    data ? SecKeyCreateSignature(signer->enclave_key, kSecKeyAlgorithmECDSASignatureMessageX962SHA256, data, NULL) : NULL;
	if (der) {
		size_t len = (size_t)CFDataGetLength(der), encoded = BASE64_ENCODED_LEN(len);
		err = buf_reserve(out_base64, encoded);
		if (!err)
			out_base64->len += base64_encode(CFDataGetBytePtr(der), len, out_base64->at + out_base64->len);
		CFRelease(der);
	}
	if (data)
		CFRelease(data);
	return err;
}

void platform_prevent_sleep(void)
{
	IOPMAssertionID assertion; /* released when the process ends */
	CFStringRef reason = CFStringCreateWithCString(NULL, "Darkbloom provider is serving", kCFStringEncodingUTF8);
	IOPMAssertionCreateWithName(kIOPMAssertionTypePreventUserIdleSystemSleep, kIOPMAssertionLevelOn, reason, &assertion);
	CFRelease(reason);
}

#endif
