/* Cookies, forms, and what an identity provider sends: what is read is text, within its bounds, and comes back the same. */
#include <stdlib.h>

#include "coordinator/accounts/device.h"
#include "coordinator/accounts/login.h"
#include "coordinator/accounts/oidc_text.h"
#include "core/utf8.h"
#include "net/cookie.h"
#include "net/form.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int fact)
{
	if (!fact)
		abort();
}

static void read_cookie(struct str text)
{
	struct str value;
	size_t count = cookie_find(text, STR("session"), &value);
	check(count > 0 || value.len == 0);
	for (size_t i = 0; i < value.len; i++)
		check(value.at[i] > 0x20 && value.at[i] < 0x7f && value.at[i] != ';' && value.at[i] != ',');
}

static void read_form(struct str text, struct arena *arena)
{
	struct str value, again;
	struct buf form;
	if (form_get(text, "a", arena, &value))
		return;
	check(utf8_valid(value) && !memchr(value.at, '\0', value.len) && value.at[value.len] == '\0');
	buf_init(&form, 8u << 20);
	form_put(&form, "a", value);
	check(form_get(buf_str(&form), "a", arena, &again) == DB_OK && str_eq(value, again));
	buf_free(&form);
}

static void read_provider(struct str text, struct arena *arena)
{
	struct oidc_metadata metadata;
	struct error error;
	struct str token;
	if (oidc_metadata_parse(text, STR("https://id.example"), &metadata, &error) == DB_OK)
		check(metadata.token_endpoint[0] && metadata.jwks_uri[0] && metadata.authorization_endpoint[0]);
	if (oidc_token_parse(200, text, arena, &token, &error) == DB_OK)
		check(token.len > 0);
	else
		check(utf8_valid(str_of(error.text)));
}

static void read_names(struct str text)
{
	char email[STORE_EMAIL_SIZE], code[DEVICE_USER_CODE_SIZE];
	if (login_fold_email(text, email) == DB_OK)
		check(strchr(email, '@') && !strchr(email, ' '));
	if (device_fold_user_code(text, code) == DB_OK)
		check(strlen(code) == DEVICE_USER_CODE_SIZE - 1 && code[4] == '-');
	(void)login_password_objection(text, text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str text = {(const char *)data, size};
	struct arena *arena = arena_new(0);
	read_cookie(text);
	read_form(text, arena);
	read_provider(text, arena);
	read_names(text);
	arena_free(arena);
	return 0;
}
