/* SQL about people: passwords, identities, invitations, what they earned. */
#include "coordinator/store/op_login.h"
#include "core/clock.h"

#define DAY_US INT64_C(86400000000)

int64_t login_account_ref(struct sql *db, const char *account_id)
{
	int64_t ref = 0;
	struct sql_stmt *stmt = sql_say(db, "SELECT ref FROM accounts WHERE id = ?");
	sql_put_text(stmt, 1, account_id);
	if (sql_row(stmt)) {
		ref = sql_i64(stmt, 0);
		sql_done(stmt);
	}
	return ref;
}

void login_read_person(struct sql *db, int64_t account, struct op_login *op)
{
	struct store_person *person = &op->person;
	struct sql_stmt *stmt = sql_say(
	    db, "SELECT accounts.id, name, coalesce(passwords.email, ''), is_owner, passwords.account IS NOT NULL,"
	        " EXISTS (SELECT 1 FROM identities WHERE identities.account = ref),"
	        " coalesce((SELECT email FROM identities WHERE identities.account = ref AND email <> '' ORDER BY created_us), '')"
	        " FROM accounts LEFT JOIN passwords ON passwords.account = ref WHERE ref = ?");
	sql_put_i64(stmt, 1, account);
	op->found = sql_row(stmt);
	if (!op->found)
		return;
	*person = (struct store_person){
	    .is_owner = sql_i64(stmt, 3) != 0, .has_password = sql_i64(stmt, 4) != 0, .has_identity = sql_i64(stmt, 5) != 0};
	sql_copy(stmt, 0, person->account_id, sizeof person->account_id);
	sql_copy(stmt, 1, person->name, sizeof person->name);
	sql_copy(stmt, 2, person->email, sizeof person->email);
	sql_copy(stmt, 6, person->verified_email, sizeof person->verified_email);
	sql_done(stmt);
	if (!person->email[0])
		memcpy(person->email, person->verified_email, sizeof person->email);
	person->email_verified = person->email[0] && strcmp(person->email, person->verified_email) == 0;
}

void login_person(struct sql *db, struct op_login *op)
{
	int64_t account = login_account_ref(db, op->key);
	if (account)
		login_read_person(db, account, op);
}

/* 0 when the id is taken or the database failed. */
static int64_t insert_account(struct sql *db, const char *id, const char *name)
{
	struct sql_stmt *stmt =
	    sql_say(db, "INSERT INTO accounts (id, kind, name, created_us) VALUES (?, 'user', ?, ?) RETURNING ref");
	sql_put_text(stmt, 1, id);
	sql_put_text(stmt, 2, name);
	sql_put_i64(stmt, 3, clock_wall_us());
	int64_t account = sql_number(stmt);
	if (!account)
		return 0;
	stmt = sql_say(db, "INSERT INTO balances (account, may_go_below) VALUES (?, 0)");
	sql_put_i64(stmt, 1, account);
	return sql_run(stmt) ? account : 0;
}

/* --- passwords --- */

static bool invitation_is_open(struct sql *db, const char *hash)
{
	struct sql_stmt *stmt = sql_say(db, "SELECT 1 FROM invitations WHERE hash = ? AND used_by IS NULL AND expires_us > ?");
	sql_put_text(stmt, 1, hash);
	sql_put_i64(stmt, 2, clock_wall_us());
	return sql_exists(stmt);
}

static int64_t owner_without_login(struct sql *db)
{
	int64_t owner = 0;
	struct sql_stmt *stmt = sql_say(db, "SELECT ref FROM accounts WHERE is_owner = 1 AND NOT EXISTS"
	                                    " (SELECT 1 FROM passwords WHERE account = ref)");
	if (sql_row(stmt)) {
		owner = sql_i64(stmt, 0);
		sql_done(stmt);
	}
	return owner;
}

/* Everything is refused before anything is written. */
static bool signup_is_refused(struct sql *db, struct op_login *op, int64_t owner)
{
	const struct store_signup *signup = &op->signup;
	if (signup->as_owner && !owner)
		op_fail(&op->op, DB_E_DENIED, "The operator has a login already.");
	else if (signup->invitation[0] && !invitation_is_open(db, signup->invitation))
		op_fail(&op->op, DB_E_DENIED, "This invitation is unknown, used or expired.");
	if (op->op.failed)
		return true;
	struct sql_stmt *stmt = sql_say(db, "SELECT 1 FROM passwords WHERE email = ?");
	sql_put_text(stmt, 1, signup->email);
	if (sql_exists(stmt))
		op_fail(&op->op, DB_E_EXISTS, "There is a login with this e-mail address already.");
	return op->op.failed != DB_OK;
}

static void use_invitation(struct sql *db, const char *hash, int64_t account)
{
	struct sql_stmt *stmt = sql_say(db, "UPDATE invitations SET used_by = ? WHERE hash = ?");
	sql_put_i64(stmt, 1, account);
	sql_put_text(stmt, 2, hash);
	sql_run(stmt);
}

void login_signup(struct sql *db, struct op_login *op)
{
	const struct store_signup *signup = &op->signup;
	int64_t account = signup->as_owner ? owner_without_login(db) : 0;
	if (signup_is_refused(db, op, account))
		return;
	if (!account)
		account = insert_account(db, signup->account_id, signup->name);
	struct sql_stmt *stmt = sql_say(db, "INSERT INTO passwords (account, email, hash, changed_us) VALUES (?, ?, ?, ?)");
	sql_put_i64(stmt, 1, account);
	sql_put_text(stmt, 2, signup->email);
	sql_put_text(stmt, 3, signup->password);
	sql_put_i64(stmt, 4, clock_wall_us());
	sql_run(stmt);
	if (signup->invitation[0])
		use_invitation(db, signup->invitation, account);
	login_read_person(db, account, op);
}

/* The row of a query for (account, hash). */
static void read_password(struct sql *db, struct sql_stmt *stmt, struct op_login *op)
{
	sql_put_text(stmt, 1, op->key);
	if (!sql_row(stmt))
		return;
	int64_t account = sql_i64(stmt, 0);
	sql_copy(stmt, 1, op->password, sizeof op->password);
	sql_done(stmt);
	login_read_person(db, account, op);
}

void login_password_find(struct sql *db, struct op_login *op)
{
	read_password(db, sql_say(db, "SELECT account, hash FROM passwords WHERE email = ?"), op);
}

void login_password_of(struct sql *db, struct op_login *op)
{
	read_password(db, sql_say(db, "SELECT account, hash FROM passwords JOIN accounts ON ref = account WHERE id = ?"), op);
}

void login_password_change(struct sql *db, struct op_login *op)
{
	int64_t account = login_account_ref(db, op->key);
	struct sql_stmt *stmt = sql_say(db, "UPDATE passwords SET hash = ?, changed_us = ? WHERE account = ?");
	sql_put_text(stmt, 1, op->password);
	sql_put_i64(stmt, 2, clock_wall_us());
	sql_put_i64(stmt, 3, account);
	if (!sql_run(stmt))
		return;
	if (sql_changes(db) == 0) {
		op_fail(&op->op, DB_E_NOT_FOUND, "This account has no password.");
		return;
	}
	stmt = sql_say(db, "DELETE FROM sessions WHERE account = ? AND hash <> ?");
	sql_put_i64(stmt, 1, account);
	sql_put_text(stmt, 2, op->other);
	sql_run(stmt);
}

void login_invitation(struct sql *db, struct op_login *op)
{
	int64_t account = login_account_ref(db, op->other);
	if (!account) {
		op_fail(&op->op, DB_E_NOT_FOUND, "The account %s does not exist.", op->other);
		return;
	}
	struct sql_stmt *stmt = sql_say(db, "INSERT INTO invitations (hash, made_by, created_us, expires_us) VALUES (?, ?, ?, ?)");
	sql_put_text(stmt, 1, op->key);
	sql_put_i64(stmt, 2, account);
	sql_put_i64(stmt, 3, clock_wall_us());
	sql_put_i64(stmt, 4, op->at_us);
	sql_run(stmt);
}

/* --- identities --- */

static int64_t account_of_identity(struct sql *db, const struct store_identity *identity)
{
	int64_t account = 0;
	struct sql_stmt *stmt = sql_say(db, "SELECT account FROM identities WHERE issuer = ? AND subject = ?");
	sql_put_text(stmt, 1, identity->issuer);
	sql_put_text(stmt, 2, identity->subject);
	if (sql_row(stmt)) {
		account = sql_i64(stmt, 0);
		sql_done(stmt);
	}
	return account;
}

static void insert_identity(struct sql *db, const struct store_identity *identity, int64_t account)
{
	struct sql_stmt *stmt =
	    sql_say(db, "INSERT INTO identities (issuer, subject, account, email, created_us) VALUES (?, ?, ?, ?, ?)");
	sql_put_text(stmt, 1, identity->issuer);
	sql_put_text(stmt, 2, identity->subject);
	sql_put_i64(stmt, 3, account);
	sql_put_text(stmt, 4, identity->email);
	sql_put_i64(stmt, 5, clock_wall_us());
	sql_run(stmt);
}

/* Addresses change, and an issuer may verify one later. */
static void update_email(struct sql *db, const struct store_identity *identity)
{
	struct sql_stmt *stmt = sql_say(db, "UPDATE identities SET email = ? WHERE issuer = ? AND subject = ? AND email <> ?");
	sql_put_text(stmt, 1, identity->email);
	sql_put_text(stmt, 2, identity->issuer);
	sql_put_text(stmt, 3, identity->subject);
	sql_put_text(stmt, 4, identity->email);
	sql_run(stmt);
}

void login_identity(struct sql *db, struct op_login *op)
{
	const struct store_identity *identity = &op->identity;
	int64_t account = account_of_identity(db, identity);
	int64_t linked = identity->link ? login_account_ref(db, identity->account_id) : 0;
	if (identity->link && !linked)
		op_fail(&op->op, DB_E_NOT_FOUND, "The account %s does not exist.", identity->account_id);
	else if (account && linked && account != linked)
		op_fail(&op->op, DB_E_EXISTS, "This identity belongs to another account.");
	else if (!account && !linked && !identity->may_create)
		op_fail(&op->op, DB_E_DENIED, "Nobody is signed up with this identity.");
	if (op->op.failed)
		return;
	if (account) {
		update_email(db, identity);
	} else {
		account = linked ? linked : insert_account(db, identity->account_id, identity->name);
		insert_identity(db, identity, account);
	}
	login_read_person(db, account, op);
}

/* --- provider tokens --- */

void login_token_revoke(struct sql *db, struct op_login *op)
{
	struct sql_stmt *stmt = sql_say(db, "UPDATE provider_tokens SET active = 0 WHERE hash = ? AND active = 1");
	sql_put_text(stmt, 1, op->key);
	if (sql_run(stmt) && sql_changes(db) == 0)
		op_fail(&op->op, DB_E_NOT_FOUND, "There is no such token.");
}

/* --- earnings --- */

#define DISORDER_US INT64_C(7200000000) /* a row may be this much older than the one before it: ids are those of holds */

/* The first row that can be of from_us or later, found by halving: rows lie in the order of time, nearly. */
int64_t login_earnings_since(struct sql *db, int64_t from_us)
{
	int64_t low = 0, high = INT64_MAX;
	while (low < high && !db->failed) {
		int64_t middle = low + (high - low) / 2;
		struct sql_stmt *stmt = sql_say(db, "SELECT id, created_us FROM earnings WHERE id > ? ORDER BY id LIMIT 1");
		sql_put_i64(stmt, 1, middle);
		if (!sql_row(stmt)) {
			high = middle;
			continue;
		}
		if (sql_i64(stmt, 1) >= from_us - DISORDER_US)
			high = middle;
		else
			low = sql_i64(stmt, 0);
		sql_done(stmt);
	}
	return low;
}

static struct store_earned earned_since(struct sql *db, int64_t account, int64_t from_us)
{
	struct store_earned earned = {0};
	struct sql_stmt *stmt =
	    sql_say(db, "SELECT coalesce(sum(amount), 0), coalesce(sum(CASE WHEN model <> 'base_reward' THEN 1 ELSE 0 END), 0)"
	                " FROM earnings WHERE id > ? AND account = ? AND created_us >= ?");
	sql_put_i64(stmt, 1, login_earnings_since(db, from_us));
	sql_put_i64(stmt, 2, account);
	sql_put_i64(stmt, 3, from_us);
	if (sql_row(stmt)) {
		earned = (struct store_earned){sql_i64(stmt, 0), sql_i64(stmt, 1)};
		sql_done(stmt);
	}
	return earned;
}

void login_earnings(struct sql *db, struct op_login *op)
{
	int64_t account = login_account_ref(db, op->key);
	struct sql_stmt *stmt = sql_say(db, "SELECT amount, jobs FROM earnings_summary WHERE account = ?");
	sql_put_i64(stmt, 1, account);
	struct store_earnings *earnings = &op->earnings;
	if (sql_row(stmt)) {
		earnings->lifetime = (struct store_earned){sql_i64(stmt, 0), sql_i64(stmt, 1)};
		sql_done(stmt);
	}
	earnings->day = earned_since(db, account, op->at_us - DAY_US);
	earnings->week = earned_since(db, account, op->at_us - 7 * DAY_US);
}
