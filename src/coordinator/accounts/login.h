/* Accounts with an e-mail address and a password (console 2.2), so that no outside service is needed. Passwords are hashed with
 * Argon2id on workers, a few at a time, with a short queue in front: a flood of logins is refused, never gathered. An unknown
 * address takes as long as a wrong password and is answered the same. Thread: the loop's. */
#ifndef COORDINATOR_LOGIN_H
#define COORDINATOR_LOGIN_H

#include "coordinator/accounts/throttle.h"
#include "coordinator/store/store_login.h"

struct login;

enum login_signup_mode { LOGIN_SIGNUP_CLOSED, LOGIN_SIGNUP_INVITE, LOGIN_SIGNUP_OPEN };

struct login_options {
	struct store *store;
	struct net_loop *loop;
	enum login_signup_mode signup;
};
struct login *login_new(const struct login_options *options);
/* After store_close. What is under way ends with DB_E_CLOSED, at the latest when the loop is freed. */
void login_free(struct login *login);
enum login_signup_mode login_signup_mode(const struct login *login);

/* While the operator has no login, whoever knows this code may sign up as the operator. Empty = it is not offered. */
void login_set_setup_code(struct login *login, struct str code);
bool login_has_setup_code(const struct login *login);

#define LOGIN_PASSWORD_MIN 10
#define LOGIN_PASSWORD_MAX 1024

struct login_attempt {
	struct str email, password;
	struct str name;       /* signing up */
	struct str invitation; /* signing up: an invitation, or the setup code */
	struct str address;    /* the caller's */
};
/* What came of it. code: DB_OK; DB_E_DENIED: wrong address or password, or no (good) invitation; DB_E_INVALID: not acceptable;
 * DB_E_EXISTS; DB_E_LIMIT: too many tries, retry_ms says when; DB_E_AGAIN: too much to do; DB_E_IO: the database. */
struct login_result {
	enum db_err code;
	uint32_t retry_ms;
	const struct store_person *person; /* with DB_OK */
	char text[320];                    /* for people */
};
typedef void (*login_fn)(const struct login_result *result, void *user);

/* `done` is called once, from inside only when there is no memory. What the attempt borrows is copied, and wiped. */
void login_sign_up(struct login *login, const struct login_attempt *attempt, login_fn done, void *user);
void login_check(struct login *login, const struct login_attempt *attempt, login_fn done, void *user);
/* The password of an account that is logged in already. */
void login_check_again(struct login *login, struct str account_id, struct str password, login_fn done, void *user);
/* current must be right. Ends every other session of the account; `keep` is the hash of the one that stays. */
void login_change(struct login *login, struct str account_id, struct str current, struct str fresh, struct str keep,
                  login_fn done, void *user);

/* The lower-case form under which an address is kept. DB_E_INVALID for what is none. Pure. */
enum db_err login_fold_email(struct str email, char out[STORE_EMAIL_SIZE]);
/* NULL when the password will do, else what is wrong with it. Pure. */
const char *login_password_objection(struct str password, struct str email);

#endif
