#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <string.h>

#include "net/stream_internal.h"
#include "net/tls_internal.h"

static bool set_alpn(SSL *ssl, const char *alpn)
{
	unsigned char wire[64];
	size_t len = strlen(alpn);
	if (len == 0 || len >= sizeof wire)
		return false;
	wire[0] = (unsigned char)len;
	memcpy(wire + 1, alpn, len);
	return SSL_set_alpn_protos(ssl, wire, (unsigned)len + 1) == 0;
}

static bool set_expected_name(SSL *ssl, const char *host)
{
	unsigned char address[16];
	if (inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1)
		return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host) == 1;
	return SSL_set1_host(ssl, host) == 1 && SSL_set_tlsext_host_name(ssl, host) == 1;
}

bool stream_tls_start(struct net_stream *stream, const struct tls_context *tls, const char *host, const char *alpn)
{
	ERR_clear_error();
	SSL *ssl = SSL_new(tls_ctx(tls));
	if (!ssl)
		return false;
	bool ok = stream->fd < 0 || SSL_set_fd(ssl, stream->fd) == 1;
	if (tls_is_server(tls))
		SSL_set_accept_state(ssl);
	else
		SSL_set_connect_state(ssl);
	if (ok && host)
		ok = set_expected_name(ssl, host);
	if (ok && alpn)
		ok = set_alpn(ssl, alpn);
	if (!ok) {
		SSL_free(ssl);
		return false;
	}
	stream->ssl = ssl;
	return true;
}

static void fail_tls(struct net_stream *stream, const char *doing, int ssl_error, int system_error)
{
	long verdict = SSL_get_verify_result(stream->ssl);
	unsigned long code = ERR_peek_error();
	if (ssl_error == SSL_ERROR_SYSCALL && system_error)
		stream_fail(stream, DB_E_CLOSED, "The connection to %s broke while %s: %s.", stream->peer, doing,
		            strerror(system_error));
	else if (verdict != X509_V_OK)
		stream_fail(stream, DB_E_CRYPTO, "The certificate of %s was not accepted: %s.", stream->peer,
		            X509_verify_cert_error_string(verdict));
	else
		stream_fail(stream, DB_E_CRYPTO, "TLS with %s failed while %s: %s.", stream->peer, doing,
		            code ? ERR_reason_error_string(code) : "the peer closed the connection");
	ERR_clear_error();
}

void stream_tls_handshake(struct net_stream *stream)
{
	ERR_clear_error();
	errno = 0;
	int rc = SSL_do_handshake(stream->ssl);
	int system_error = errno;
	if (rc == 1) {
		stream->blocked = false;
		stream_established(stream);
		return;
	}
	int ssl_error = SSL_get_error(stream->ssl, rc);
	if (ssl_error != SSL_ERROR_WANT_READ && ssl_error != SSL_ERROR_WANT_WRITE) {
		fail_tls(stream, "shaking hands", ssl_error, system_error);
		return;
	}
	stream->blocked = ssl_error == SSL_ERROR_WANT_WRITE;
	stream_arm(stream);
}

ssize_t stream_tls_read(struct net_stream *stream, char *into, size_t size)
{
	ERR_clear_error();
	errno = 0;
	size_t got = 0;
	int rc = SSL_read_ex(stream->ssl, into, size, &got);
	int system_error = errno;
	if (rc == 1)
		return (ssize_t)got;
	int ssl_error = SSL_get_error(stream->ssl, rc);
	switch (ssl_error) {
	case SSL_ERROR_ZERO_RETURN:
		return 0;
	case SSL_ERROR_WANT_WRITE:
		stream->read_waits = stream->blocked = true;
		return STREAM_AGAIN;
	case SSL_ERROR_WANT_READ:
		return STREAM_AGAIN;
	default:
		fail_tls(stream, "reading", ssl_error, system_error);
		return STREAM_FAILED;
	}
}

ssize_t stream_tls_write(struct net_stream *stream, const char *bytes, size_t len)
{
	ERR_clear_error();
	errno = 0;
	size_t taken = 0;
	int rc = SSL_write_ex(stream->ssl, bytes, len, &taken);
	int system_error = errno;
	if (rc == 1)
		return (ssize_t)taken;
	int ssl_error = SSL_get_error(stream->ssl, rc);
	if (ssl_error == SSL_ERROR_WANT_WRITE) {
		stream->blocked = true;
		return STREAM_AGAIN;
	}
	if (ssl_error == SSL_ERROR_WANT_READ)
		return STREAM_AGAIN; /* tried again after the next read */
	fail_tls(stream, "writing", ssl_error, system_error);
	return STREAM_FAILED;
}

bool stream_tls_holds_bytes(const struct net_stream *stream)
{
	return SSL_has_pending(stream->ssl) == 1;
}

void stream_tls_say_goodbye(struct net_stream *stream)
{
	ERR_clear_error();
	SSL_shutdown(stream->ssl); /* one attempt: the peer learns of the end from the FIN as well */
	ERR_clear_error();
}
