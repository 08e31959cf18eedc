/* Operations about people: one struct for all of them, since they are rare. Inside store/ only. */
#ifndef COORDINATOR_STORE_OP_LOGIN_H
#define COORDINATOR_STORE_OP_LOGIN_H

#include "coordinator/store/op.h"
#include "coordinator/store/sql.h"
#include "coordinator/store/store_login.h"

/* OP_LOGIN_WRITE, OP_LOGIN_READ */
struct op_login {
	struct store_op op;
	void (*run)(struct sql *db, struct op_login *op); /* writer's or reader's thread */
	union {
		store_done_fn done;
		store_person_fn person;
		store_password_fn password;
		store_session_fn session;
		store_sessions_fn sessions;
		store_earnings_fn earnings;
	} then;
	char key[STORE_EMAIL_SIZE]; /* account id, hash or address */
	char other[STORE_ID_SIZE];  /* a second one */
	int64_t at_us;
	union {
		struct store_signup signup;
		struct store_identity identity;
		struct store_session session; /* in and out */
		struct store_earnings earnings;
		char password[STORE_PASSWORD_SIZE]; /* in and out */
	};
	bool found;
	struct store_person person;
	struct store_session *rows; /* owned */
	size_t count;
};

/* What `run` can be, in login.c and login_session.c. */
void login_signup(struct sql *db, struct op_login *op);
void login_password_find(struct sql *db, struct op_login *op);
void login_password_of(struct sql *db, struct op_login *op);
void login_password_change(struct sql *db, struct op_login *op);
void login_person(struct sql *db, struct op_login *op);
void login_invitation(struct sql *db, struct op_login *op);
void login_identity(struct sql *db, struct op_login *op);
void login_session_create(struct sql *db, struct op_login *op);
void login_session_find(struct sql *db, struct op_login *op);
void login_session_touch(struct sql *db, struct op_login *op);
void login_session_end(struct sql *db, struct op_login *op);
void login_session_revoke(struct sql *db, struct op_login *op);
void login_sessions_list(struct sql *db, struct op_login *op);
void login_token_revoke(struct sql *db, struct op_login *op);
void login_earnings(struct sql *db, struct op_login *op);

/* Fills op->person from the account with this ref; op->found says whether there is one. */
void login_read_person(struct sql *db, int64_t account, struct op_login *op);
/* 0 when there is no such account. */
int64_t login_account_ref(struct sql *db, const char *account_id);

/* An id of earnings before which no row is of from_us or later. */
int64_t login_earnings_since(struct sql *db, int64_t from_us);

#endif
