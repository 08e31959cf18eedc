/* Logging in a program by a code that a person confirms elsewhere (http-api 4.2, RFC 8628). Codes live in memory for 15
 * minutes; the program's long code is kept as a hash. Each login gives one token, once. Pure: the time is an argument, and who
 * approves was authenticated before. Thread: the loop's. */
#ifndef COORDINATOR_DEVICE_H
#define COORDINATOR_DEVICE_H

#include "coordinator/store/store.h"

struct devices;

#define DEVICE_CODE_SIZE      65 /* hex with NUL */
#define DEVICE_USER_CODE_SIZE 10 /* "ABCD-2345" with NUL */
#define DEVICE_LIFE_S         900
#define DEVICE_INTERVAL_S     5

struct devices *devices_new(size_t pending_max);
void devices_free(struct devices *devices);

struct device_codes {
	char device_code[DEVICE_CODE_SIZE], user_code[DEVICE_USER_CODE_SIZE];
};
/* `agent` is shown to the person who confirms. DB_E_LIMIT: too many logins are under way, from this network or at all. */
enum db_err device_begin(struct devices *devices, struct str address, struct str agent, uint64_t now_us,
                         struct device_codes *out);

enum device_state {
	DEVICE_UNKNOWN,
	DEVICE_PENDING,
	DEVICE_SLOW_DOWN, /* asked again too soon: *interval_s is longer from now on */
	DEVICE_APPROVED,  /* the caller makes the token now, then calls device_taken, or device_give_back when it could not */
	DEVICE_DENIED,
	DEVICE_TAKEN,
	DEVICE_EXPIRED,
};
struct device_grant {
	char account_id[STORE_ID_SIZE], user_code[DEVICE_USER_CODE_SIZE];
};
/* A second poll while the first one's token is being made finds it taken. */
enum device_state device_poll(struct devices *devices, struct str device_code, uint64_t now_us, struct device_grant *grant,
                              unsigned *interval_s);
void device_give_back(struct devices *devices, struct str device_code);

/* Upper case, dashes and spaces taken out. DB_E_INVALID when it cannot be a code. */
enum db_err device_fold_user_code(struct str text, char out[DEVICE_USER_CODE_SIZE]);

/* What waits behind a user code; borrowed until the next call. */
struct device_view {
	enum device_state state;
	struct str address, agent;
	uint64_t age_us;
};
bool device_look(struct devices *devices, struct str user_code, uint64_t now_us, struct device_view *out);
/* DB_E_NOT_FOUND, DB_E_TIMEOUT (expired), DB_E_EXISTS (answered before). */
enum db_err device_answer(struct devices *devices, struct str user_code, struct str account_id, bool approve, uint64_t now_us);
size_t devices_pending(const struct devices *devices);

#endif
