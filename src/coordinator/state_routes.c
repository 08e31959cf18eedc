/* /v1/admin/state-export: the coordinator's whole state as an encrypted download (billing 12), and the note that the command
 * makes one. */
#include "coordinator/money_routes.h"

#include "coordinator/auth.h"
#include "coordinator/download.h"
#include "coordinator/server.h"
#include "coordinator/state_export.h"
#include "coordinator/store/store_trail.h"
#include "coordinator/task.h"
#include "core/clock.h"
#include "core/log.h"
#include "net/loop.h"

#include <stdio.h>

#define PART_MAX (2u << 20)

struct state_task {
	struct task task;
	const struct coordinator_config *config;
	struct net_loop *loop;
	struct state_export *export;
	struct error error;
};

struct state_download {
	struct download download;
	struct net_loop *loop;
	struct state_export *export;
	struct buf part;
	bool is_last;
	enum db_err err;
	struct error error;
	char name[64];
};

/* The copy is a folder of files: to remove it takes the disk. */
static void free_export(void *export)
{
	state_export_free(export);
}

static void export_freed(void *export)
{
	(void)export;
}

static void let_go(struct net_loop *loop, struct state_export *export)
{
	if (export)
		net_work(loop, free_export, export_freed, export);
}

/* --- what was copied and checked goes out in parts, made by a worker each --- */

static void make_part(void *arg)
{
	struct state_download *state = arg;
	state->err = state_export_next(state->export, &state->part, &state->is_last, &state->error);
}

static void part_made(void *arg)
{
	struct state_download *state = arg;
	if (state->err)
		log_error("state_export.failed", "why=\"%s\"", state->error.text);
	download_page(&state->download, buf_str(&state->part), state->is_last, state->err ? &state->error : NULL);
}

static void ask_part(struct download *download)
{
	struct state_download *state = (struct state_download *)download;
	buf_clear(&state->part);
	net_work(state->loop, make_part, part_made, state);
}

static void release(struct download *download)
{
	struct state_download *state = (struct state_download *)download;
	if (state->is_last && !state->err)
		log_info("state_export.done", "files=%zu bytes=%lld", state_export_files(state->export),
		         (long long)state_export_bytes(state->export));
	let_go(state->loop, state->export);
	buf_free(&state->part);
}

static void begin_download(struct server *server, struct exchange *exchange, struct state_export *export)
{
	struct state_download *state = download_new(server, exchange, sizeof *state);
	if (!state) {
		let_go(server_rooms(server)->loop, export);
		return;
	}
	state->loop = server_rooms(server)->loop;
	state->export = export;
	buf_init(&state->part, PART_MAX);
	snprintf(state->name, sizeof state->name, "darkbloom-state-%lld.zip.age", (long long)(clock_wall_us() / 1000000));
	state->download.file_name = state->name;
	state->download.content_type = "application/octet-stream";
	state->download.release = release;
	download_start(&state->download, ask_part);
}

/* --- before any byte of the answer --- */

static void prepare(void *arg)
{
	struct state_task *task = arg;
	task->export = state_export_new(task->config, str_of(task->config->state_recipient), &task->error);
}

static void prepared(void *arg)
{
	struct state_task *task = arg;
	struct server *server = task->task.server;
	struct state_export *export = task->export;
	struct error error = task->error;
	struct exchange *exchange = task_end(task);
	task_free(task);
	if (!export)
		log_error("state_export.failed", "why=\"%s\"", error.text);
	if (!exchange)
		let_go(server_rooms(server)->loop, export);
	else if (export)
		begin_download(server, exchange, export);
	else
		task_refuse(exchange, error.code == DB_E_EXISTS ? 409 : 500, "server_error", error.text, 0);
}

/* The audit trail has it, and so has the copy. */
static void noted(const struct error *error, void *user)
{
	struct state_task *task = user;
	if (!error && task->task.exchange) {
		net_work(task->loop, prepare, prepared, task);
		return;
	}
	struct exchange *exchange = task_end(task);
	task_free(task);
	if (exchange)
		task_refuse(exchange, 503, "server_error", "That the state is exported cannot be noted now: try again.", 2);
}

static void begin_export(struct server *server, struct exchange *exchange)
{
	const struct server_rooms *rooms = server_rooms(server);
	struct state_task *task = task_new(server, exchange, sizeof *task);
	if (!task)
		return;
	task->config = rooms->config;
	task->loop = rooms->loop;
	log_info("state_export.begun", "recipient=%.12s", task->config->state_recipient);
	store_act(rooms->store, STR("operator"), STR_NONE); /* who has the admin key */
	store_trail_add(rooms->store, STR("state.export"), str_of(task->config->state_recipient), noted, task);
}

/* --- POST: the command exports, beside this coordinator --- */

static void command_noted(const struct error *error, void *user)
{
	struct exchange *exchange = task_end(user);
	task_free(user);
	if (exchange && error)
		task_refuse(exchange, 503, "server_error", "That the state is exported cannot be noted now.", 2);
	else if (exchange)
		task_answer_status(exchange, "noted");
}

void handle_state_exported(struct server *server, struct exchange *exchange)
{
	struct str recipient;
	if (!str_is(http_peer(exchange->http), "local")) { /* only the command, through the socket beside the database */
		server_refuse_unknown(exchange);
		return;
	}
	const json_val *root = task_body(exchange);
	if (!root)
		return;
	if (!json_as_str(json_get(root, "recipient"), &recipient) || !recipient.len) {
		task_refuse(exchange, 400, "bad_request", "recipient is required.", 0);
		return;
	}
	struct task *task = task_new(server, exchange, sizeof *task);
	if (!task)
		return;
	store_act(server_rooms(server)->store, STR("operator"), STR_NONE);
	store_trail_add(server_rooms(server)->store, STR("state.export"), recipient, command_noted, task);
}

/* --- GET --- */

void handle_state_export(struct server *server, struct exchange *exchange)
{
	const struct server_rooms *rooms = server_rooms(server);
	const struct coordinator_config *config = rooms->config;
	struct str token = auth_bearer(http_header_get(exchange->http, "authorization"));
	if (!config->state_export) {
		server_refuse_unknown(exchange);
	} else if (!accounts_is_admin_key(rooms->accounts, token)) { /* people who are logged in as operators are refused too */
		task_refuse(exchange, 403, "forbidden", "This is for who has the admin key itself.", 0);
	} else if (!config->state_recipient[0]) {
		task_refuse(exchange, 412, "invalid_request_error", "No recipient is configured: set state_export.recipient.", 0);
	} else {
		begin_export(server, exchange);
	}
}
