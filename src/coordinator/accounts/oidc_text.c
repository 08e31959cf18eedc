#include "coordinator/accounts/oidc_text.h"

#include <stdio.h>

#include "coordinator/accounts/oidc.h"
#include "core/encode.h"
#include "core/json.h"
#include "net/form.h"

/* "127.0.0.1", "localhost" or "[::1]" up to the port or the path. */
static bool is_this_machine(struct str rest)
{
	static const char *const names[] = {"127.0.0.1", "localhost", "[::1]"};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		size_t len = strlen(names[i]);
		if (str_starts(rest, str_of(names[i])) && (rest.len == len || rest.at[len] == ':' || rest.at[len] == '/'))
			return true;
	}
	return false;
}

bool oidc_issuer_is_acceptable(struct str issuer)
{
	for (size_t i = 0; i < issuer.len; i++)
		if ((unsigned char)issuer.at[i] <= 0x20 || (unsigned char)issuer.at[i] >= 0x7f || issuer.at[i] == '#')
			return false;
	if (str_starts(issuer, STR("https://")))
		return issuer.len > 8 && issuer.at[8] != '/';
	return str_starts(issuer, STR("http://")) && is_this_machine(str_sub(issuer, 7, issuer.len));
}

enum db_err oidc_discovery_url(struct str issuer, char out[OIDC_URL_SIZE])
{
	while (str_ends(issuer, STR("/")))
		issuer.len--;
	int len = snprintf(out, OIDC_URL_SIZE, "%.*s/.well-known/openid-configuration", STR_ARG(issuer));
	return len > 0 && len < OIDC_URL_SIZE ? DB_OK : DB_E_LIMIT;
}

static bool read_endpoint(const json_val *root, const char *name, char out[OIDC_URL_SIZE])
{
	struct str url;
	return json_as_str(json_get(root, name), &url) && oidc_issuer_is_acceptable(url) && str_copy(url, out, OIDC_URL_SIZE);
}

/* Without the list the header is what every issuer takes (Discovery 3). */
static bool takes_secret_in_form_only(const json_val *root)
{
	const json_val *methods = json_get(root, "token_endpoint_auth_methods_supported");
	struct json_iter each = json_iter(methods);
	bool in_header = json_type(methods) != JSON_ARRAY;
	struct str method;
	for (json_val *one; !in_header && (one = json_next(&each, NULL));)
		in_header = json_as_str(one, &method) && str_is(method, "client_secret_basic");
	return !in_header;
}

enum db_err oidc_metadata_parse(struct str json, struct str issuer, struct oidc_metadata *out, struct error *error)
{
	struct json_doc *doc = json_parse(json, NULL, NULL);
	const json_val *root = doc ? json_root(doc) : NULL;
	struct str named;
	enum db_err err = DB_OK;
	*out = (struct oidc_metadata){0};
	if (!json_as_str(json_get(root, "issuer"), &named) || !str_eq(named, issuer))
		err = error_set(error, DB_E_INVALID, "The identity provider describes another issuer than oidc.issuer.");
	else if (!read_endpoint(root, "authorization_endpoint", out->authorization_endpoint) ||
	         !read_endpoint(root, "token_endpoint", out->token_endpoint) || !read_endpoint(root, "jwks_uri", out->jwks_uri))
		err = error_set(error, DB_E_INVALID, "The identity provider lacks an endpoint, or one is not https.");
	else
		out->secret_in_form = takes_secret_in_form_only(root);
	json_free(doc);
	return err;
}

void oidc_authorization_url(struct buf *out, struct str endpoint, const struct oidc_request *request)
{
	buf_append_str(out, endpoint);
	if (!memchr(endpoint.at, '?', endpoint.len))
		buf_append_byte(out, '?');
	form_put(out, "response_type", STR("code"));
	form_put(out, "client_id", request->client_id);
	form_put(out, "redirect_uri", request->redirect_uri);
	form_put(out, "scope", request->scopes);
	form_put(out, "state", request->state);
	form_put(out, "nonce", request->nonce);
	form_put(out, "code_challenge", request->challenge);
	form_put(out, "code_challenge_method", STR("S256"));
}

void oidc_token_form(struct buf *out, struct str code, struct str redirect_uri, struct str verifier)
{
	buf_append_c(out, "grant_type=authorization_code");
	form_put(out, "code", code);
	form_put(out, "redirect_uri", redirect_uri);
	form_put(out, "code_verifier", verifier);
}

void oidc_client_in_form(struct buf *form, struct str client_id, struct str client_secret)
{
	form_put(form, "client_id", client_id);
	if (client_secret.len)
		form_put(form, "client_secret", client_secret);
}

void oidc_client_in_header(struct buf *authorization, struct str client_id, struct str client_secret)
{
	struct buf pair;
	buf_init(&pair, 2048);
	form_encode(&pair, client_id);
	buf_append_byte(&pair, ':');
	form_encode(&pair, client_secret);
	buf_append_c(authorization, "Basic ");
	if (!pair.failed && buf_reserve(authorization, BASE64_ENCODED_LEN(pair.len)) == DB_OK)
		authorization->len += base64_encode(pair.at, pair.len, authorization->at + authorization->len);
	else
		authorization->failed = true;
	buf_free(&pair);
}

/* RFC 6749 5.2 allows only these in an error code. */
static void copy_code(struct str code, char *out, size_t size)
{
	size_t len = 0;
	for (; len < code.len && len + 1 < size; len++) {
		char c = code.at[len];
		out[len] = (char)((c >= 'a' && c <= 'z') || c == '_' ? c : '?');
	}
	out[len] = '\0';
}

enum db_err oidc_token_parse(int status, struct str body, struct arena *arena, struct str *id_token, struct error *error)
{
	struct json_doc *doc = json_parse(body, arena, NULL);
	const json_val *root = doc ? json_root(doc) : NULL;
	struct str code = STR_NONE;
	char text[48];
	if (status == 200 && json_as_str(json_get(root, "id_token"), id_token) && id_token->len)
		return DB_OK;
	(void)json_as_str(json_get(root, "error"), &code);
	copy_code(code.len ? code : STR("no_id_token"), text, sizeof text);
	return error_set(error, DB_E_DENIED, "The identity provider refused the login (%s).", text);
}
