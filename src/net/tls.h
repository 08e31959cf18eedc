/* TLS contexts over OpenSSL. Made at start-up, shared by the connections of one loop. */
#ifndef NET_TLS_H
#define NET_TLS_H

#include "core/error.h"

struct tls_context;

/* PEM files. ALPN h2 and http/1.1, TLS 1.2 and up, buffers released on idle connections, no session cache or tickets. */
struct tls_context *tls_server_new(const char *cert_path, const char *key_path, struct error *error);
/* Verifies the peer's name. ca_path NULL uses the system's trust store. */
struct tls_context *tls_client_new(const char *ca_path, struct error *error);
void tls_free(struct tls_context *tls);

#endif
