#include "net/tls.h"

#include <openssl/err.h>
#include <stdlib.h>

#include "core/str.h"
#include "net/tls_internal.h"

struct tls_context {
	SSL_CTX *ctx;
	bool server;
};

SSL_CTX *tls_ctx(const struct tls_context *tls)
{
	return tls->ctx;
}

bool tls_is_server(const struct tls_context *tls)
{
	return tls->server;
}

static const char *openssl_reason(void)
{
	const char *reason = ERR_reason_error_string(ERR_peek_last_error());
	return reason ? reason : "unknown reason";
}

static int choose_protocol(SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *offered,
                           unsigned int offered_len, void *arg)
{
	(void)ssl;
	(void)arg;
	static const unsigned char ours[] = "\x02h2\x08http/1.1";
	unsigned char *chosen;
	if (SSL_select_next_proto(&chosen, out_len, ours, sizeof ours - 1, offered, offered_len) != OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_NOACK;
	*out = chosen;
	return SSL_TLSEXT_ERR_OK;
}

static struct tls_context *context_new(const SSL_METHOD *method, bool server, struct error *error)
{
	ERR_clear_error();
	struct tls_context *tls = calloc(1, sizeof *tls);
	SSL_CTX *ctx = SSL_CTX_new(method);
	if (!tls || !ctx || SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) != 1) {
		error_set(error, DB_E_CRYPTO, "TLS could not be set up: %s.", openssl_reason());
		SSL_CTX_free(ctx);
		free(tls);
		return NULL;
	}
	SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	/* A peer that leaves without close_notify is an ordinary end: HTTP and WebSocket messages carry their own lengths. */
	SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CLEANSE_PLAINTEXT |
	                             SSL_OP_IGNORE_UNEXPECTED_EOF);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_num_tickets(ctx, 0);
	SSL_CTX_set_read_ahead(ctx, 1); /* one read for a record's header and body */
	tls->ctx = ctx;
	tls->server = server;
	return tls;
}

struct tls_context *tls_server_new(const char *cert_path, const char *key_path, struct error *error)
{
	struct tls_context *tls = context_new(TLS_server_method(), true, error);
	if (!tls)
		return NULL;
	/* HTTP/2 allows only these families under TLS 1.2 (RFC 9113, 9.2.2). */
	if (SSL_CTX_set_cipher_list(tls->ctx, "ECDHE+AESGCM:ECDHE+CHACHA20") != 1)
		error_set(error, DB_E_CRYPTO, "TLS ciphers could not be set: %s.", openssl_reason());
	else if (SSL_CTX_use_certificate_chain_file(tls->ctx, cert_path) != 1)
		error_set(error, DB_E_INVALID,
		          "The TLS certificate %s could not be read: %s. It must be a PEM file, own certificate first.", cert_path,
		          openssl_reason());
	else if (SSL_CTX_use_PrivateKey_file(tls->ctx, key_path, SSL_FILETYPE_PEM) != 1)
		error_set(error, DB_E_INVALID, "The TLS key %s could not be used: %s. It must be the PEM key of the certificate %s.",
		          key_path, openssl_reason(), cert_path);
	else if (SSL_CTX_check_private_key(tls->ctx) != 1)
		error_set(error, DB_E_INVALID, "The TLS key %s does not belong to the certificate %s.", key_path, cert_path);
	else {
		SSL_CTX_set_alpn_select_cb(tls->ctx, choose_protocol, NULL);
		return tls;
	}
	tls_free(tls);
	return NULL;
}

struct tls_context *tls_client_new(const char *ca_path, struct error *error)
{
	struct tls_context *tls = context_new(TLS_client_method(), false, error);
	if (!tls)
		return NULL;
	SSL_CTX_set_verify(tls->ctx, SSL_VERIFY_PEER, NULL);
	int loaded = ca_path ? SSL_CTX_load_verify_locations(tls->ctx, ca_path, NULL) : SSL_CTX_set_default_verify_paths(tls->ctx);
	if (loaded == 1)
		return tls;
	error_set(error, DB_E_INVALID, "The trusted certificates in %s could not be read: %s.",
	          ca_path ? ca_path : "the system's trust store", openssl_reason());
	tls_free(tls);
	return NULL;
}

void tls_free(struct tls_context *tls)
{
	if (!tls)
		return;
	SSL_CTX_free(tls->ctx); /* connections hold their own references */
	free(tls);
}
