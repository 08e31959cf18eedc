/* What may be an e-mail address and a password. */
#include "coordinator/accounts/login.h"

#include "core/utf8.h"

enum db_err login_fold_email(struct str email, char out[STORE_EMAIL_SIZE])
{
	struct str name, host = str_cut(str_trim(email), '@', &name);
	email = str_trim(email);
	out[0] = '\0';
	if (email.len > 254 || !name.len || name.len > 64 || host.len < 1 || memchr(host.at, '@', host.len) || !utf8_valid(email))
		return DB_E_INVALID;
	for (size_t i = 0; i < email.len; i++) {
		unsigned char c = (unsigned char)email.at[i];
		if (c <= 0x20 || c == 0x7f || strchr("<>()[],;:\\\"", c))
			return DB_E_INVALID;
		out[i] = (char)(c >= 'A' && c <= 'Z' ? c | 0x20 : c);
	}
	out[email.len] = '\0';
	return DB_OK;
}

/* The ones of ten characters and more that lists of leaked passwords have on top. */
static const char *const common[] = {
    "1234567890",  "0123456789",    "12345678910", "123456789a",  "password12",   "password123",  "password1234",
    "qwertyuiop",  "q1w2e3r4t5",    "1q2w3e4r5t",  "iloveyou12",  "qwerty12345",  "qwerty123456", "1qaz2wsx3edc",
    "adminadmin",  "administrator", "letmeinnow",  "welcome123",  "welcome1234",  "passw0rd123",  "darkbloom123",
    "changeme123", "football123",   "sunshine123", "princess123", "zaq12wsxcde3",
};

static bool is_one_character(struct str password)
{
	for (size_t i = 1; i < password.len; i++)
		if (password.at[i] != password.at[0])
			return false;
	return true;
}

const char *login_password_objection(struct str password, struct str email)
{
	struct str name;
	(void)str_cut(email, '@', &name);
	if (password.len < LOGIN_PASSWORD_MIN)
		return "The password must have at least 10 characters.";
	if (password.len > LOGIN_PASSWORD_MAX)
		return "The password can have at most 1024 bytes.";
	if (!utf8_valid(password) || memchr(password.at, '\0', password.len))
		return "The password must be text.";
	if (is_one_character(password) || str_eq_nocase(password, email) || str_eq_nocase(password, name))
		return "The password is too easy to guess: choose another.";
	for (size_t i = 0; i < sizeof common / sizeof *common; i++)
		if (str_eq_nocase(password, str_of(common[i])))
			return "The password is one of the first that are tried: choose another.";
	return NULL;
}
