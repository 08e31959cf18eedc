#include "coordinator/store/store_login.h"

#include <stdlib.h>

#include "coordinator/store/journal.h"
#include "coordinator/store/op_login.h"
#include "coordinator/store/store_internal.h"

/* --- asking --- */

static struct op_login *new_login_op(enum op_kind kind, void (*run)(struct sql *db, struct op_login *op),
                                     void (*deliver)(struct store_op *op), void *user)
{
	struct op_login *op = store_new_op(sizeof *op, kind, deliver, user);
	op->run = run;
	return op;
}

static void deliver_done(struct store_op *op)
{
	((struct op_login *)op)->then.done(op_error(op), op->user);
}

static void deliver_person(struct store_op *op)
{
	struct op_login *login = (struct op_login *)op;
	login->then.person(login->found && !op->failed ? &login->person : NULL, op_error(op), op->user);
}

static void deliver_password(struct store_op *op)
{
	struct op_login *login = (struct op_login *)op;
	bool found = login->found && !op->failed;
	login->then.password(found ? &login->person : NULL, found ? login->password : NULL, op_error(op), op->user);
}

static void deliver_session(struct store_op *op)
{
	struct op_login *login = (struct op_login *)op;
	bool found = login->found && !op->failed;
	login->then.session(found ? &login->session : NULL, found ? &login->person : NULL, op_error(op), op->user);
}

static void deliver_sessions(struct store_op *op)
{
	struct op_login *login = (struct op_login *)op;
	login->then.sessions(login->rows, op->failed ? 0 : login->count, op_error(op), op->user);
}

static void deliver_earnings(struct store_op *op)
{
	struct op_login *login = (struct op_login *)op;
	login->then.earnings(op->failed ? NULL : &login->earnings, op_error(op), op->user);
}

static void submit(struct store *store, struct op_login *op)
{
	journal_submit(store->journal, &op->op);
}

/* A write that only says whether it went well; done may be NULL. */
static struct op_login *new_write(void (*run)(struct sql *db, struct op_login *op), struct str key, store_done_fn done,
                                  void *user)
{
	struct op_login *op = new_login_op(OP_LOGIN_WRITE, run, done ? deliver_done : NULL, user);
	op->then.done = done;
	str_copy(key, op->key, sizeof op->key); /* a key that does not fit names nothing, and nothing is found */
	return op;
}

/* --- passwords and people --- */

void store_signup(struct store *store, const struct store_signup *signup, store_person_fn done, void *user)
{
	struct op_login *op = new_login_op(OP_LOGIN_WRITE, login_signup, deliver_person, user);
	op->then.person = done;
	op->signup = *signup;
	submit(store, op);
}

static void find_password(struct store *store, void (*run)(struct sql *db, struct op_login *op), struct str key,
                          store_password_fn done, void *user)
{
	struct op_login *op = new_login_op(OP_LOGIN_READ, run, deliver_password, user);
	op->then.password = done;
	str_copy(key, op->key, sizeof op->key);
	submit(store, op);
}

void store_password_find(struct store *store, struct str email, store_password_fn done, void *user)
{
	find_password(store, login_password_find, email, done, user);
}

void store_password_of(struct store *store, struct str account_id, store_password_fn done, void *user)
{
	find_password(store, login_password_of, account_id, done, user);
}

void store_password_change(struct store *store, struct str account_id, const char *hash, struct str keep, store_done_fn done,
                           void *user)
{
	struct op_login *op = new_write(login_password_change, account_id, done, user);
	str_copy(str_of(hash), op->password, sizeof op->password);
	str_copy(keep, op->other, sizeof op->other);
	submit(store, op);
}

void store_person_get(struct store *store, struct str account_id, store_person_fn done, void *user)
{
	struct op_login *op = new_login_op(OP_LOGIN_READ, login_person, deliver_person, user);
	op->then.person = done;
	str_copy(account_id, op->key, sizeof op->key);
	submit(store, op);
}

void store_invitation_create(struct store *store, struct str hash_hex, struct str made_by, int64_t expires_us,
                             store_done_fn done, void *user)
{
	struct op_login *op = new_write(login_invitation, hash_hex, done, user);
	str_copy(made_by, op->other, sizeof op->other);
	op->at_us = expires_us;
	submit(store, op);
}

void store_identity_login(struct store *store, const struct store_identity *identity, store_person_fn done, void *user)
{
	struct op_login *op = new_login_op(OP_LOGIN_WRITE, login_identity, deliver_person, user);
	op->then.person = done;
	op->identity = *identity;
	submit(store, op);
}

/* --- sessions --- */

void store_session_create(struct store *store, const struct store_session *session, struct str replaces, store_done_fn done,
                          void *user)
{
	struct op_login *op = new_write(login_session_create, STR_NONE, done, user);
	op->session = *session;
	str_copy(replaces, op->other, sizeof op->other);
	submit(store, op);
}

void store_session_find(struct store *store, struct str hash_hex, int64_t now_us, store_session_fn done, void *user)
{
	struct op_login *op = new_login_op(OP_LOGIN_READ, login_session_find, deliver_session, user);
	op->then.session = done;
	str_copy(hash_hex, op->key, sizeof op->key);
	op->at_us = now_us;
	submit(store, op);
}

void store_session_touch(struct store *store, struct str hash_hex, int64_t seen_us, int64_t auth_us)
{
	struct op_login *op = new_write(login_session_touch, hash_hex, NULL, NULL);
	op->at_us = seen_us;
	op->session.auth_us = auth_us;
	submit(store, op);
}

void store_session_end(struct store *store, struct str hash_hex, store_done_fn done, void *user)
{
	submit(store, new_write(login_session_end, hash_hex, done, user));
}

void store_session_revoke(struct store *store, struct str account_id, struct str id, store_done_fn done, void *user)
{
	struct op_login *op = new_write(login_session_revoke, account_id, done, user);
	str_copy(id, op->other, sizeof op->other);
	submit(store, op);
}

void store_sessions_list(struct store *store, struct str account_id, int64_t now_us, store_sessions_fn done, void *user)
{
	struct op_login *op = new_login_op(OP_LOGIN_READ, login_sessions_list, deliver_sessions, user);
	op->then.sessions = done;
	str_copy(account_id, op->key, sizeof op->key);
	op->at_us = now_us;
	submit(store, op);
}

/* --- tokens and earnings --- */

void store_provider_token_revoke(struct store *store, struct str hash_hex, store_done_fn done, void *user)
{
	submit(store, new_write(login_token_revoke, hash_hex, done, user));
}

void store_earnings_get(struct store *store, struct str account_id, int64_t now_us, store_earnings_fn done, void *user)
{
	struct op_login *op = new_login_op(OP_LOGIN_READ, login_earnings, deliver_earnings, user);
	op->then.earnings = done;
	str_copy(account_id, op->key, sizeof op->key);
	op->at_us = now_us;
	submit(store, op);
}
