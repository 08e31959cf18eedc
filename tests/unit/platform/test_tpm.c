/* A secret sealed by a TPM 2.0. The TPM is swtpm, a real one in software, started by the test in the place of the machine's;
 * where it is not installed the tests that need it say so and are skipped. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/encode.h"
#include "crypto/secret.h"
#include "provider/platform/secret_keeper.h"
#include "provider/platform/tpm_blob.h"

#define START_PATIENCE_US 60000000
#define STARTS            20

static char folder[64];

static char *path_of(const char *name)
{
	static char paths[4][256];
	static int next;
	char *path = paths[next++ % 4];
	snprintf(path, sizeof paths[0], "%s/%s", folder, name);
	return path;
}

/* --- a TPM in software --- */

struct soft_tpm {
	char state[256], tcti[64];
	pid_t process; /* 0: it is off */
};

static uint16_t free_port(uint16_t wanted)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(wanted), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof address;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool free_now = bind(fd, (struct sockaddr *)&address, len) == 0 && getsockname(fd, (struct sockaddr *)&address, &len) == 0;
	close(fd);
	return free_now ? ntohs(address.sin_port) : 0;
}

/* The way to it needs two ports beside each other. */
static uint16_t free_pair(void)
{
	for (;;) {
		uint16_t port = free_port(0);
		if (port && port < UINT16_MAX && free_port((uint16_t)(port + 1)))
			return port;
	}
}

/* It is written once both ports are swtpm's: nobody else is talked to before. */
static const char *pid_file_of(const struct soft_tpm *tpm)
{
	static char path[300];
	snprintf(path, sizeof path, "%s/pid", tpm->state);
	return path;
}

static void run_swtpm(const struct soft_tpm *tpm, uint16_t port)
{
	char state[300], server[64], control[64], pid_file[320];
	int nothing = open("/dev/null", O_RDWR);
	snprintf(state, sizeof state, "dir=%s", tpm->state);
	snprintf(server, sizeof server, "type=tcp,port=%u,bindaddr=127.0.0.1", port);
	snprintf(control, sizeof control, "type=tcp,port=%u,bindaddr=127.0.0.1", port + 1u);
	snprintf(pid_file, sizeof pid_file, "file=%s", pid_file_of(tpm));
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	dup2(nothing, 1);
	dup2(nothing, 2);
	execlp("swtpm", "swtpm", "socket", "--tpm2", "--tpmstate", state, "--server", server, "--ctrl", control, "--flags",
	       "not-need-init,startup-clear", "--pid", pid_file, (char *)NULL);
	_exit(errno == ENOENT ? 127 : 1);
}

/* It answers, or it has ended: both are certain, and there are no others. */
static bool wait_for_answer(struct soft_tpm *tpm, int *status)
{
	struct error error;
	uint64_t until = clock_mono_us() + START_PATIENCE_US;
	while (clock_mono_us() < until && waitpid(tpm->process, status, WNOHANG) == 0) {
		bool ready = access(pid_file_of(tpm), F_OK) == 0;
		struct secret_keeper *keeper = ready ? tpm_keeper_open(path_of("none"), tpm->tcti, &error) : NULL;
		if (keeper) {
			keeper->ops->close(keeper);
			return true;
		}
		usleep(10000);
	}
	if (clock_mono_us() >= until && kill(tpm->process, SIGKILL) == 0)
		waitpid(tpm->process, status, 0);
	return false;
}

/* False: there is no swtpm. */
static bool turn_on(struct soft_tpm *tpm)
{
	int status = 0;
	mkdir(tpm->state, 0700);
	for (int i = 0; i < STARTS; i++) {
		uint16_t port = free_pair();
		snprintf(tpm->tcti, sizeof tpm->tcti, "swtpm:host=127.0.0.1,port=%u", port);
		unlink(pid_file_of(tpm));
		tpm->process = fork();
		if (tpm->process == 0)
			run_swtpm(tpm, port);
		if (wait_for_answer(tpm, &status))
			return true;
		tpm->process = 0;
		if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
			return false;
	}
	fail_msg("swtpm did not start %d times", STARTS);
	return false;
}

static void turn_off(struct soft_tpm *tpm)
{
	if (!tpm->process)
		return;
	kill(tpm->process, SIGTERM);
	assert_int_equal(waitpid(tpm->process, NULL, 0), tpm->process);
	tpm->process = 0;
}

/* What is missing for these tests; NULL: nothing. */
static const char *missing(void)
{
	static struct error error;
	tpm_keeper_open(path_of("none"), "swtpm:host=127.0.0.1,port=1", &error);
	if (strstr(error.text, "built without") || strstr(error.text, "tpm2-tss is missing"))
		return error.text;
	return system("command -v swtpm >/dev/null 2>&1") ? "swtpm is not installed" : NULL;
}

static int start_tpm(void **state)
{
	static struct soft_tpm tpm;
	const char *why = missing();
	*state = NULL;
	if (why) {
		print_message("skipped: %s\n", why);
		return 0;
	}
	tpm = (struct soft_tpm){0};
	snprintf(tpm.state, sizeof tpm.state, "%s/tpm-XXXXXX", folder);
	if (!mkdtemp(tpm.state) || !turn_on(&tpm))
		return 1;
	*state = &tpm;
	return 0;
}

static int stop_tpm(void **state)
{
	if (*state)
		turn_off(*state);
	return 0;
}

static struct soft_tpm *tpm_of(void **state)
{
	if (!*state)
		skip();
	return *state;
}

/* --- the tests --- */

static struct platform_secret *try_secret(const struct soft_tpm *tpm, const char *name, enum platform_secret_choice choice,
                                          struct error *error)
{
	struct platform_secret_options options = {.state_dir = folder, .name = name, .choice = choice, .tpm = tpm->tcti};
	*error = (struct error){0};
	return platform_secret_open(&options, error);
}

static struct platform_secret *secret_of(const struct soft_tpm *tpm, const char *name)
{
	struct error error;
	struct platform_secret *secret = try_secret(tpm, name, PLATFORM_SECRET_TPM, &error);
	if (!secret)
		fail_msg("%s", error.text);
	assert_int_equal(secret->kept, PLATFORM_KEEPER_TPM);
	return secret;
}

static struct buf file_of(const char *path)
{
	struct buf content;
	struct error error;
	buf_init(&content, 1 << 16);
	if (platform_read_file(path, 1 << 14, &content, &error))
		fail_msg("%s", error.text);
	return content;
}

static void a_sealed_secret_outlives_program_and_machine(void **state)
{
	struct soft_tpm *tpm = tpm_of(state);
	struct stat info;
	char hex[2 * PLATFORM_SECRET_BYTES + 1];
	struct platform_secret *first = secret_of(tpm, "lasting");
	assert_int_equal(first->origin, PLATFORM_SECRET_MADE);
	turn_off(tpm);
	assert_true(turn_on(tpm));
	struct platform_secret *again = secret_of(tpm, "lasting");
	assert_int_equal(again->origin, PLATFORM_SECRET_FOUND);
	assert_memory_equal(again->bytes, first->bytes, sizeof first->bytes);

	assert_int_equal(stat(path_of("lasting.tpm"), &info), 0);
	assert_int_equal(info.st_mode & 0777, 0600);
	assert_int_not_equal(access(path_of("lasting"), F_OK), 0);
	struct buf sealed = file_of(path_of("lasting.tpm"));
	hex_encode(first->bytes, sizeof first->bytes, hex);
	assert_null(memmem(sealed.at, sealed.len, first->bytes, sizeof first->bytes));
	assert_null(memmem(sealed.at, sealed.len, hex, sizeof hex - 1));
	buf_free(&sealed);
	platform_secret_free(first);
	platform_secret_free(again);
}

static void another_tpm_cannot_open_it_and_begins_anew(void **state)
{
	struct soft_tpm *tpm = tpm_of(state);
	struct soft_tpm other = {0};
	snprintf(other.state, sizeof other.state, "%s", path_of("other-tpm"));
	struct platform_secret *first = secret_of(tpm, "moved");
	turn_off(tpm);
	assert_true(turn_on(&other));
	struct platform_secret *second = secret_of(&other, "moved"), *again = secret_of(&other, "moved");
	turn_off(&other);
	assert_int_equal(second->origin, PLATFORM_SECRET_RENEWED);
	assert_non_null(strstr(second->why, "not sealed by this machine's TPM"));
	assert_memory_not_equal(second->bytes, first->bytes, sizeof first->bytes);
	assert_int_equal(again->origin, PLATFORM_SECRET_FOUND);
	assert_memory_equal(again->bytes, second->bytes, sizeof second->bytes);
	platform_secret_free(first);
	platform_secret_free(second);
	platform_secret_free(again);
}

static void a_torn_or_altered_file_is_never_opened(void **state)
{
	struct soft_tpm *tpm = tpm_of(state);
	struct error error;
	uint8_t out[PLATFORM_SECRET_BYTES];
	size_t stride = getenv("DARKBLOOM_ALL_FAULTS") ? 1 : 5;
	struct platform_secret *first = secret_of(tpm, "altered");
	struct buf sealed = file_of(path_of("altered.tpm"));
	struct secret_keeper *keeper = tpm_keeper_open(path_of("altered.tpm"), tpm->tcti, &error);
	assert_non_null(keeper);
	assert_int_equal(keeper->ops->unwrap(keeper, buf_str(&sealed), out, &error), DB_OK);
	assert_memory_equal(out, first->bytes, sizeof out);
	for (size_t i = 0; i < sealed.len; i += stride) {
		for (int bit = 0; bit < 8; bit += 7) {
			sealed.at[i] = (char)(sealed.at[i] ^ 1 << bit);
			enum db_err err = keeper->ops->unwrap(keeper, buf_str(&sealed), out, &error);
			sealed.at[i] = (char)(sealed.at[i] ^ 1 << bit);
			if (err != DB_E_CRYPTO)
				fail_msg("byte %zu, bit %d: %s: %s", i, bit, error_name(err), error.text);
		}
		assert_int_equal(keeper->ops->unwrap(keeper, (struct str){sealed.at, i}, out, &error), DB_E_CRYPTO);
	}
	assert_int_equal(keeper->ops->unwrap(keeper, buf_str(&sealed), out, &error), DB_OK);
	keeper->ops->close(keeper);

	assert_int_equal(platform_write_private(path_of("altered.tpm"), (struct str){sealed.at, sealed.len / 2}, &error), DB_OK);
	struct platform_secret *anew = secret_of(tpm, "altered");
	assert_int_equal(anew->origin, PLATFORM_SECRET_RENEWED);
	assert_non_null(strstr(anew->why, "torn"));
	assert_memory_not_equal(anew->bytes, first->bytes, sizeof first->bytes);
	platform_secret_free(anew);
	buf_free(&sealed);
	platform_secret_free(first);
}

static void a_secret_in_a_file_moves_into_the_tpm_once_there_is_one(void **state)
{
	struct soft_tpm *tpm = tpm_of(state), none = {.tcti = "device:/nonexistent/tpm"};
	struct error error;
	struct platform_secret *plain = try_secret(&none, "upgraded", PLATFORM_SECRET_AUTO, &error);
	assert_non_null(plain);
	assert_int_equal(plain->kept, PLATFORM_KEEPER_FILE);
	assert_int_equal(access(path_of("upgraded"), F_OK), 0);
	struct platform_secret *sealed = try_secret(tpm, "upgraded", PLATFORM_SECRET_AUTO, &error);
	assert_non_null(sealed);
	assert_int_equal(sealed->kept, PLATFORM_KEEPER_TPM);
	assert_int_equal(sealed->origin, PLATFORM_SECRET_ADOPTED);
	assert_memory_equal(sealed->bytes, plain->bytes, sizeof plain->bytes);
	assert_int_not_equal(access(path_of("upgraded"), F_OK), 0);
	platform_secret_free(plain);
	platform_secret_free(sealed);
}

static void a_tpm_that_is_away_loses_nothing(void **state)
{
	struct soft_tpm *tpm = tpm_of(state);
	struct error error;
	struct platform_secret *first = secret_of(tpm, "away");
	turn_off(tpm);
	assert_null(try_secret(tpm, "away", PLATFORM_SECRET_TPM, &error));
	assert_true(error.text[0]);
	assert_null(try_secret(tpm, "away", PLATFORM_SECRET_SECURE, &error));
	struct platform_secret *plain = try_secret(tpm, "away", PLATFORM_SECRET_AUTO, &error);
	assert_non_null(plain);
	assert_int_equal(plain->kept, PLATFORM_KEEPER_FILE);
	assert_true(plain->why[0]);
	assert_true(turn_on(tpm));
	struct platform_secret *again = secret_of(tpm, "away");
	assert_int_equal(again->origin, PLATFORM_SECRET_FOUND);
	assert_memory_equal(again->bytes, first->bytes, sizeof first->bytes);
	assert_int_not_equal(access(path_of("away"), F_OK), 0);
	platform_secret_free(first);
	platform_secret_free(plain);
	platform_secret_free(again);
}

static void processes_that_begin_at_once_seal_one_secret(void **state)
{
	enum { PROCESSES = 4 };
	struct soft_tpm *tpm = tpm_of(state);
	struct error error;
	uint8_t secret[PLATFORM_SECRET_BYTES];
	int told[2], status;
	assert_int_equal(pipe(told), 0);
	for (int i = 0; i < PROCESSES; i++) {
		if (fork() == 0) {
			struct platform_secret *mine = try_secret(tpm, "shared", PLATFORM_SECRET_TPM, &error);
			_exit(mine && write(told[1], mine->bytes, sizeof mine->bytes) == (ssize_t)sizeof mine->bytes ? 0 : 1);
		}
	}
	for (int i = 0; i < PROCESSES; i++) {
		assert_true(wait(&status) > 0);
		assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	}
	struct platform_secret *last = secret_of(tpm, "shared");
	for (int i = 0; i < PROCESSES; i++) {
		assert_int_equal(read(told[0], secret, sizeof secret), (ssize_t)sizeof secret);
		assert_memory_equal(secret, last->bytes, sizeof secret);
	}
	platform_secret_free(last);
	close(told[0]);
	close(told[1]);
}

static void only_a_file_of_two_whole_parts_is_read(void **state)
{
	(void)state;
	static const char good[] = "DBTPM001\0\3pub\0\4priv";
	struct str file = {good, sizeof good - 1};
	struct tpm_blob blob;
	assert_int_equal(tpm_blob_read(file, &blob), DB_OK);
	assert_true(str_eq(blob.public_part, ((struct str){"\0\3pub", 5})));
	assert_true(str_eq(blob.private_part, ((struct str){"\0\4priv", 6})));
	for (size_t len = 0; len < file.len; len++)
		assert_int_equal(tpm_blob_read(str_sub(file, 0, len), &blob), DB_E_INVALID);
	assert_int_equal(tpm_blob_read((struct str){good, sizeof good}, &blob), DB_E_INVALID); /* a byte too many */
	assert_int_equal(tpm_blob_read(STR("DBTPM002\0\3pub\0\4priv"), &blob), DB_E_INVALID);
	assert_int_equal(tpm_blob_read(STR("DBTPM001\0\0\0\4priv"), &blob), DB_E_INVALID);
	assert_int_equal(tpm_blob_read(STR("DBTPM001\377\377pub\0\4priv"), &blob), DB_E_INVALID);
}

int main(void)
{
	snprintf(folder, sizeof folder, "%s/tpm-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
	if (crypto_init() || !mkdtemp(folder))
		return 1;
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(only_a_file_of_two_whole_parts_is_read),
	    cmocka_unit_test_setup_teardown(a_sealed_secret_outlives_program_and_machine, start_tpm, stop_tpm),
	    cmocka_unit_test_setup_teardown(another_tpm_cannot_open_it_and_begins_anew, start_tpm, stop_tpm),
	    cmocka_unit_test_setup_teardown(a_torn_or_altered_file_is_never_opened, start_tpm, stop_tpm),
	    cmocka_unit_test_setup_teardown(a_secret_in_a_file_moves_into_the_tpm_once_there_is_one, start_tpm, stop_tpm),
	    cmocka_unit_test_setup_teardown(a_tpm_that_is_away_loses_nothing, start_tpm, stop_tpm),
	    cmocka_unit_test_setup_teardown(processes_that_begin_at_once_seal_one_secret, start_tpm, stop_tpm),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
