#include "coordinator/accounts/device.h"

#include <stdlib.h>

#include "coordinator/accounts/throttle.h"
#include "core/id.h"
#include "core/list.h"
#include "core/map.h"
#include "crypto/hash.h"
#include "crypto/secret.h"

#define ALPHABET     "ABCDEFGHJKMNPQRSTUVWXYZ23456789"
#define USER_LEN     8
#define LIFE_US      (DEVICE_LIFE_S * UINT64_C(1000000))
#define KEEP_US      (2 * LIFE_US) /* an expired code is called expired this long, then unknown */
#define TOLERANCE_US 500000        /* how much too soon a poll may come */
#define NET_MAX      20            /* logins under way from one network */

struct device {
	uint8_t hash[SHA256_BYTES]; /* of the device code */
	char user_code[DEVICE_USER_CODE_SIZE];
	enum device_state state; /* pending, approved, denied, taken */
	uint64_t made_us, polled_us;
	unsigned interval_s;
	char account_id[STORE_ID_SIZE], net[THROTTLE_NET_SIZE], address[64], agent[96];
	struct list_link age;
};

struct devices {
	struct map by_code, by_user_code;
	struct list by_age; /* oldest first */
	size_t pending_max;
};

struct devices *devices_new(size_t pending_max)
{
	struct devices *devices = calloc(1, sizeof *devices);
	if (!devices)
		return NULL;
	map_init(&devices->by_code);
	map_init(&devices->by_user_code);
	list_init(&devices->by_age);
	devices->pending_max = pending_max;
	return devices;
}

static struct str hash_str(const uint8_t hash[SHA256_BYTES])
{
	return (struct str){(const char *)hash, SHA256_BYTES};
}

static void forget(struct devices *devices, struct device *device)
{
	map_remove(&devices->by_code, hash_str(device->hash));
	map_remove(&devices->by_user_code, str_of(device->user_code));
	list_remove(&devices->by_age, &device->age);
	secret_wipe(device, sizeof *device);
	free(device);
}

void devices_free(struct devices *devices)
{
	struct list_link *link;
	if (!devices)
		return;
	while ((link = list_first(&devices->by_age)))
		forget(devices, LIST_OF(link, struct device, age));
	map_free(&devices->by_code);
	map_free(&devices->by_user_code);
	free(devices);
}

size_t devices_pending(const struct devices *devices)
{
	return devices->by_age.count;
}

static void forget_old(struct devices *devices, uint64_t now_us)
{
	struct list_link *link;
	while ((link = list_first(&devices->by_age))) {
		struct device *device = LIST_OF(link, struct device, age);
		if (now_us - device->made_us < KEEP_US)
			return;
		forget(devices, device);
	}
}

/* --- codes --- */

/* Every character equally likely: bytes that would favour the first ones are thrown away. */
static void make_user_code(char out[DEVICE_USER_CODE_SIZE])
{
	const unsigned letters = sizeof ALPHABET - 1;
	size_t len = 0;
	while (len < USER_LEN + 1) {
		uint8_t byte;
		if (len == USER_LEN / 2) {
			out[len++] = '-';
			continue;
		}
		id_random(&byte, 1);
		if (byte < 256 / letters * letters)
			out[len++] = ALPHABET[byte % letters];
	}
	out[len] = '\0';
}

enum db_err device_fold_user_code(struct str text, char out[DEVICE_USER_CODE_SIZE])
{
	size_t len = 0;
	for (size_t i = 0; i < text.len; i++) {
		char c = text.at[i];
		if (c == '-' || c == ' ')
			continue;
		if (c >= 'a' && c <= 'z')
			c = (char)(c - 'a' + 'A');
		if (len == USER_LEN / 2)
			out[len++] = '-';
		if (len > USER_LEN || c == '\0' || !strchr(ALPHABET, c))
			return DB_E_INVALID;
		out[len++] = c;
	}
	out[len] = '\0';
	return len == USER_LEN + 1 ? DB_OK : DB_E_INVALID;
}

static size_t count_of_net(const struct devices *devices, const char *net, uint64_t now_us)
{
	size_t count = 0;
	LIST_EACH (link, &devices->by_age) {
		const struct device *device = LIST_OF(link, struct device, age);
		count += now_us - device->made_us < LIFE_US && strcmp(device->net, net) == 0;
	}
	return count;
}

/* What a stranger calls itself is shown to a person: printable ASCII only. */
static void copy_plain(struct str text, char *out, size_t size)
{
	size_t len = 0;
	for (; len < text.len && len + 1 < size; len++)
		out[len] = (char)(text.at[len] >= 0x20 && text.at[len] < 0x7f ? text.at[len] : '?');
	out[len] = '\0';
}

enum db_err device_begin(struct devices *devices, struct str address, struct str agent, uint64_t now_us,
                         struct device_codes *out)
{
	char net[THROTTLE_NET_SIZE];
	forget_old(devices, now_us);
	throttle_net(address, net);
	if (devices->by_age.count >= devices->pending_max || count_of_net(devices, net, now_us) >= NET_MAX)
		return DB_E_LIMIT;
	struct device *device = calloc(1, sizeof *device);
	if (!device)
		return DB_E_LIMIT;
	do
		make_user_code(device->user_code);
	while (map_get(&devices->by_user_code, str_of(device->user_code)));
	id_hex(out->device_code, SHA256_BYTES);
	memcpy(out->user_code, device->user_code, sizeof out->user_code);
	sha256(out->device_code, strlen(out->device_code), device->hash);
	device->state = DEVICE_PENDING;
	device->made_us = now_us;
	device->interval_s = DEVICE_INTERVAL_S;
	memcpy(device->net, net, sizeof device->net);
	copy_plain(address, device->address, sizeof device->address);
	copy_plain(agent, device->agent, sizeof device->agent);
	list_push_back(&devices->by_age, &device->age);
	if (map_put(&devices->by_code, hash_str(device->hash), device, NULL) ||
	    map_put(&devices->by_user_code, str_of(device->user_code), device, NULL)) {
		forget(devices, device);
		return DB_E_LIMIT;
	}
	return DB_OK;
}

/* --- the program's side --- */

static struct device *find(struct devices *devices, struct str device_code)
{
	uint8_t hash[SHA256_BYTES];
	sha256(device_code.at, device_code.len, hash);
	struct device *device = map_get(&devices->by_code, hash_str(hash));
	return device && secret_equal(device->hash, hash, sizeof hash) ? device : NULL;
}

enum device_state device_poll(struct devices *devices, struct str device_code, uint64_t now_us, struct device_grant *grant,
                              unsigned *interval_s)
{
	forget_old(devices, now_us);
	struct device *device = find(devices, device_code);
	if (!device)
		return DEVICE_UNKNOWN;
	if (device->state == DEVICE_TAKEN || device->state == DEVICE_DENIED)
		return device->state;
	if (now_us - device->made_us >= LIFE_US)
		return DEVICE_EXPIRED;
	uint64_t since_us = now_us - device->polled_us;
	bool too_soon = device->polled_us && since_us + TOLERANCE_US < device->interval_s * UINT64_C(1000000);
	device->polled_us = now_us;
	if (too_soon)
		device->interval_s += DEVICE_INTERVAL_S; /* RFC 8628 3.5 */
	*interval_s = device->interval_s;
	if (too_soon)
		return DEVICE_SLOW_DOWN;
	if (device->state != DEVICE_APPROVED)
		return device->state;
	memcpy(grant->account_id, device->account_id, sizeof grant->account_id);
	memcpy(grant->user_code, device->user_code, sizeof grant->user_code);
	device->state = DEVICE_TAKEN;
	return DEVICE_APPROVED;
}

void device_give_back(struct devices *devices, struct str device_code)
{
	struct device *device = find(devices, device_code);
	if (device && device->state == DEVICE_TAKEN)
		device->state = DEVICE_APPROVED;
}

/* --- the person's side --- */

static struct device *find_by_user_code(struct devices *devices, struct str text)
{
	char code[DEVICE_USER_CODE_SIZE];
	if (device_fold_user_code(text, code))
		return NULL;
	struct device *device = map_get(&devices->by_user_code, str_of(code));
	return device && secret_equal(device->user_code, code, sizeof code) ? device : NULL;
}

bool device_look(struct devices *devices, struct str user_code, uint64_t now_us, struct device_view *out)
{
	const struct device *device = find_by_user_code(devices, user_code);
	if (!device)
		return false;
	*out = (struct device_view){.state = now_us - device->made_us >= LIFE_US ? DEVICE_EXPIRED : device->state,
	                            .address = str_of(device->address),
	                            .agent = str_of(device->agent),
	                            .age_us = now_us - device->made_us};
	return true;
}

enum db_err device_answer(struct devices *devices, struct str user_code, struct str account_id, bool approve, uint64_t now_us)
{
	struct device *device = find_by_user_code(devices, user_code);
	if (!device)
		return DB_E_NOT_FOUND;
	if (device->state != DEVICE_PENDING)
		return DB_E_EXISTS;
	if (now_us - device->made_us >= LIFE_US)
		return DB_E_TIMEOUT;
	device->state = approve ? DEVICE_APPROVED : DEVICE_DENIED;
	str_copy(account_id, device->account_id, sizeof device->account_id);
	return DB_OK;
}
