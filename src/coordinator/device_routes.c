/* Logging in a program by a code (http-api 4.2, RFC 8628). Answers carry both a `status`, by which the programs of the network
 * go, and an `error` object. */
#include "coordinator/browser.h"
#include "coordinator/guess.h"
#include "coordinator/portal.h"
#include "coordinator/portal_routes.h"
#include "coordinator/server.h"
#include "coordinator/task.h"

#include <stdio.h>

#include "core/id.h"
#include "core/json.h"
#include "core/log.h"
#include "crypto/hash.h"
#include "crypto/secret.h"

#define TOKEN_SIZE (sizeof ACCOUNTS_PROVIDER_PREFIX + 64)

void handle_device_code(struct server *server, struct exchange *exchange)
{
	struct device_codes codes;
	struct buf body, url;
	struct json_writer w;
	struct portal *portal = server_rooms(server)->portal;
	struct str agent = http_header_get(exchange->http, "user-agent");
	buf_init(&url, 1024);
	if (!browser_base_url(server, exchange->http, &url)) {
		task_refuse(exchange, 400, "invalid_request", "The Host header is no host name.", 0);
	} else if (device_begin(portal->devices, browser_address(server, exchange->http), agent, net_now_us(exchange->loop),
	                        &codes)) {
		task_refuse(exchange, 429, "rate_limit_exceeded", "Too many logins are under way: wait a few minutes.", 60);
	} else {
		buf_append_c(&url, "/link");
		buf_init(&body, 4096);
		json_writer_init(&w, &body);
		json_begin_object(&w);
		json_put_cstr(&w, "device_code", codes.device_code);
		json_put_cstr(&w, "user_code", codes.user_code);
		json_put_str(&w, "verification_uri", buf_str(&url));
		buf_printf(&url, "?user_code=%s", codes.user_code);
		json_put_str(&w, "verification_uri_complete", buf_str(&url));
		json_put_i64(&w, "expires_in", DEVICE_LIFE_S);
		json_put_i64(&w, "interval", DEVICE_INTERVAL_S);
		json_end_object(&w);
		task_answer_private(exchange, 200, &body);
	}
	buf_free(&url);
	secret_wipe(&codes, sizeof codes);
}

/* --- polling --- */

struct minting {
	struct task task;
	struct devices *devices;
	char token[TOKEN_SIZE], device_code[DEVICE_CODE_SIZE];
	struct device_grant grant;
};

static void on_minted(const struct error *error, void *user)
{
	struct minting *minting = user;
	struct exchange *exchange = task_end(minting);
	struct buf body;
	struct json_writer w;
	if (error)
		device_give_back(minting->devices, str_of(minting->device_code));
	if (exchange && error) {
		task_refuse(exchange, 503, "service_unavailable", "The token cannot be made at the moment: ask again.", 2);
	} else if (exchange) {
		struct ledger_account *account =
		    ledger_account_find(server_rooms(minting->task.server)->ledger, str_of(minting->grant.account_id));
		if (account)
			ledger_account_note_machine(account);
		log_info("device.linked", "account=%s", minting->grant.account_id);
		buf_init(&body, 1024);
		json_writer_init(&w, &body);
		json_begin_object(&w);
		json_put_cstr(&w, "status", "authorized");
		json_put_cstr(&w, "token", minting->token);
		json_put_cstr(&w, "account_id", minting->grant.account_id);
		json_end_object(&w);
		task_answer_private(exchange, 200, &body);
	}
	task_free(minting);
}

static void mint(struct server *server, struct exchange *exchange, struct str device_code, const struct device_grant *grant)
{
	char hash[SHA256_HEX_SIZE], label[32];
	struct minting *minting = task_new(server, exchange, sizeof *minting);
	if (!minting) {
		device_give_back(server_rooms(server)->portal->devices, device_code);
		return;
	}
	minting->grant = *grant;
	minting->devices = server_rooms(server)->portal->devices;
	str_copy(device_code, minting->device_code, sizeof minting->device_code);
	memcpy(minting->token, ACCOUNTS_PROVIDER_PREFIX, sizeof ACCOUNTS_PROVIDER_PREFIX);
	id_hex(minting->token + sizeof ACCOUNTS_PROVIDER_PREFIX - 1, 32);
	sha256_hex(minting->token, strlen(minting->token), hash);
	snprintf(label, sizeof label, "device-%s", grant->user_code);
	store_provider_token_create(server_rooms(server)->store, str_of(hash), str_of(grant->account_id), str_of(label), on_minted,
	                            minting);
}

static void answer_slow_down(struct exchange *exchange, unsigned interval_s)
{
	struct buf body;
	struct json_writer w;
	buf_init(&body, 1024);
	json_writer_init(&w, &body);
	json_begin_object(&w);
	json_put_cstr(&w, "status", "slow_down");
	json_put_i64(&w, "interval", interval_s);
	json_key(&w, "error");
	json_begin_object(&w);
	json_put_cstr(&w, "type", "slow_down");
	json_put_cstr(&w, "code", "slow_down");
	json_put_cstr(&w, "message", "This asks too often: wait for the interval, which is longer now.");
	json_end_object(&w);
	json_end_object(&w);
	task_answer_private(exchange, 400, &body);
}

static bool read_text(struct exchange *exchange, const char *name, struct str *text)
{
	const json_val *body = task_body(exchange);
	char message[128];
	if (!body)
		return false;
	if (json_as_str(json_get(body, name), text) && str_trim(*text).len)
		return true;
	snprintf(message, sizeof message, "%s is needed.", name);
	task_refuse(exchange, 400, "invalid_request", message, 0);
	return false;
}

void handle_device_token(struct server *server, struct exchange *exchange)
{
	struct str code;
	struct device_grant grant;
	unsigned interval_s = DEVICE_INTERVAL_S;
	if (!read_text(exchange, "device_code", &code))
		return;
	switch (device_poll(server_rooms(server)->portal->devices, code, net_now_us(exchange->loop), &grant, &interval_s)) {
	case DEVICE_UNKNOWN:
		task_refuse(exchange, 404, "invalid_grant", "This device code is unknown: begin a new login.", 0);
		break;
	case DEVICE_PENDING:
		task_answer_status(exchange, "authorization_pending");
		break;
	case DEVICE_SLOW_DOWN:
		answer_slow_down(exchange, interval_s);
		break;
	case DEVICE_APPROVED:
		mint(server, exchange, code, &grant);
		break;
	case DEVICE_DENIED:
		task_refuse(exchange, 403, "access_denied", "The login was refused by the person who was asked.", 0);
		break;
	case DEVICE_TAKEN:
		task_refuse(exchange, 410, "expired_token", "This device code has given its token already: begin a new login.", 0);
		break;
	case DEVICE_EXPIRED:
		task_refuse(exchange, 410, "expired_token", "This device code has expired: begin a new login.", 0);
		break;
	}
}

/* --- the person's side --- */

void handle_device_approve(struct server *server, struct exchange *exchange)
{
	struct str code, account = str_of(ledger_account_id(exchange->caller.account));
	if (!read_text(exchange, "user_code", &code))
		return;
	uint32_t wait_ms = guess_begin(server, exchange->http, account);
	if (wait_ms) {
		task_refuse(exchange, 429, "rate_limit_exceeded", "There were too many wrong codes: wait a moment, then try again.",
		            (int)((wait_ms + 999) / 1000));
		return;
	}
	enum db_err err = device_answer(server_rooms(server)->portal->devices, code, account, true, net_now_us(exchange->loop));
	if (err != DB_E_NOT_FOUND)
		guess_was_right(server, exchange->http, account);
	if (err == DB_E_NOT_FOUND)
		task_refuse(exchange, 404, "invalid_code", "There is no login with this code: look at the program again.", 0);
	else if (err == DB_E_TIMEOUT)
		task_refuse(exchange, 410, "expired_code", "This code has expired: begin a new login.", 0);
	else if (err)
		task_refuse(exchange, 409, "already_used", "This code was used before.", 0);
	else
		task_answer_status(exchange, "approved");
}

/* --- the end of a token --- */

static void on_revoked(const struct error *error, void *user)
{
	struct task *task = user;
	struct exchange *exchange = task_end(task);
	if (exchange && error && error->code != DB_E_NOT_FOUND)
		task_refuse(exchange, 503, "service_unavailable", "The token cannot be revoked at the moment: try again.", 2);
	else if (exchange)
		task_answer_status(exchange, "revoked"); /* as RFC 7009 2.2: whoever asks about an unknown token has what it wanted */
	task_free(task);
}

void handle_device_revoke(struct server *server, struct exchange *exchange)
{
	struct str token;
	char hash[SHA256_HEX_SIZE];
	struct task *task = read_text(exchange, "token", &token) ? task_new(server, exchange, sizeof *task) : NULL;
	if (!task)
		return;
	sha256_hex(token.at, token.len, hash);
	store_provider_token_revoke(server_rooms(server)->store, str_of(hash), on_revoked, task);
}
