#include "coordinator/store/op.h"

#include "coordinator/store/op_login.h"
#include "coordinator/store/op_task.h"
#include "crypto/secret.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

const struct error *op_error(const struct store_op *op)
{
	static const struct error no_memory = {DB_E_NOMEM, "The store failed, and there was no memory to say why."};
	if (!op->failed)
		return NULL;
	return op->why ? op->why : &no_memory;
}

void op_fail_with(struct store_op *op, const struct error *error)
{
	op->failed = error->code;
	if (!op->why)
		op->why = malloc(sizeof *op->why);
	if (op->why)
		*op->why = *error;
}

enum db_err op_fail(struct store_op *op, enum db_err code, const char *format, ...)
{
	struct error error = {.code = code};
	va_list args;
	va_start(args, format);
	vsnprintf(error.text, sizeof error.text, format, args);
	va_end(args);
	op_fail_with(op, &error);
	return code;
}

void op_clear_error(struct store_op *op)
{
	op->failed = DB_OK;
	free(op->why);
	op->why = NULL;
}

bool op_is_list(enum op_kind kind)
{
	return kind == OP_PRICES_LIST || kind == OP_USAGE_LIST || kind == OP_LEDGER_OF_REQUEST || kind == OP_KEYS_LIST ||
	       kind == OP_LEVELS_LIST;
}

void op_free(struct store_op *op)
{
	if (op_is_list(op->kind))
		free(((struct op_list *)op)->rows);
	if (op->kind == OP_KEYS_TOUCH || op->kind == OP_LEVELS_SAVE)
		free(((struct op_batch *)op)->rows);
	if (op->kind == OP_LOGIN_WRITE || op->kind == OP_LOGIN_READ) {
		struct op_login *login = (struct op_login *)op;
		free(login->rows);
		op_clear_error(op);
		secret_wipe(login, sizeof *login);
	}
	if ((op->kind == OP_TASK_WRITE || op->kind == OP_TASK_READ) && ((struct op_task *)op)->dispose)
		((struct op_task *)op)->dispose((struct op_task *)op);
	op_clear_error(op);
	free(op->actor);
	free(op);
}

const char *op_name(enum op_kind kind)
{
	static const char *const names[OP_KINDS] = {
	    [OP_FLUSH] = "flush",
	    [OP_ACCOUNT_CREATE] = "account_create",
	    [OP_ACCOUNT_GET] = "account_get",
	    [OP_OWNER_CREATE] = "owner_create",
	    [OP_KEY_CREATE] = "key_create",
	    [OP_KEY_DISABLE] = "key_disable",
	    [OP_KEY_UPDATE] = "key_update",
	    [OP_KEY_ROTATE] = "key_rotate",
	    [OP_KEY_DELETE] = "key_delete",
	    [OP_KEYS_TOUCH] = "keys_touch",
	    [OP_LEVELS_SAVE] = "levels_save",
	    [OP_PROVIDER_TOKEN_CREATE] = "provider_token_create",
	    [OP_TRANSFER] = "transfer",
	    [OP_HOLD_CREATE] = "hold_create",
	    [OP_HOLD_RAISE] = "hold_raise",
	    [OP_HOLD_RELEASE] = "hold_release",
	    [OP_SETTLE] = "settle",
	    [OP_PRICE_SET] = "price_set",
	    [OP_LOGIN_WRITE] = "login_write",
	    [OP_OWNER_GET] = "owner_get",
	    [OP_KEY_FIND] = "key_find",
	    [OP_KEY_GET] = "key_get",
	    [OP_KEYS_LIST] = "keys_list",
	    [OP_LEVELS_LIST] = "levels_list",
	    [OP_PROVIDER_TOKEN_FIND] = "provider_token_find",
	    [OP_PRICES_LIST] = "prices_list",
	    [OP_USAGE_LIST] = "usage_list",
	    [OP_LEDGER_OF_REQUEST] = "ledger_of_request",
	    [OP_LOGIN_READ] = "login_read",
	    [OP_TASK_WRITE] = "task_write",
	    [OP_TASK_READ] = "task_read",
	};
	return names[kind];
}
