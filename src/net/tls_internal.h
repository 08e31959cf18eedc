/* What net/stream*.c needs of a TLS context. Internal to net/. */
#ifndef NET_TLS_INTERNAL_H
#define NET_TLS_INTERNAL_H

#include <openssl/ssl.h>
#include <stdbool.h>

#include "net/tls.h"

SSL_CTX *tls_ctx(const struct tls_context *tls);
bool tls_is_server(const struct tls_context *tls);

#endif
