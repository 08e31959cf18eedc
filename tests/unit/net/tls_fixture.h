/* A throw-away certificate for localhost and 127.0.0.1, signed by itself, in a temporary folder. */
#ifndef TESTS_NET_TLS_FIXTURE_H
#define TESTS_NET_TLS_FIXTURE_H

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct tls_fixture {
	char folder[64], cert[96], key[96];
};

static inline bool tls_fixture_extend(X509 *cert, int nid, const char *value)
{
	X509V3_CTX ctx;
	X509V3_set_ctx_nodb(&ctx);
	X509V3_set_ctx(&ctx, cert, cert, NULL, NULL, 0);
	X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	bool ok = extension && X509_add_ext(cert, extension, -1) == 1;
	X509_EXTENSION_free(extension);
	return ok;
}

static inline bool tls_fixture_make(struct tls_fixture *fixture)
{
	snprintf(fixture->folder, sizeof fixture->folder, "/tmp/darkbloom-tls-XXXXXX");
	if (!mkdtemp(fixture->folder))
		return false;
	snprintf(fixture->cert, sizeof fixture->cert, "%s/cert.pem", fixture->folder);
	snprintf(fixture->key, sizeof fixture->key, "%s/key.pem", fixture->folder);

	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *cert = X509_new();
	X509_set_version(cert, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
	X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
	X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
	X509_set_pubkey(cert, key);
	X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC, (const unsigned char *)"localhost", -1, -1, 0);
	X509_set_issuer_name(cert, X509_get_subject_name(cert));
	bool ok = tls_fixture_extend(cert, NID_subject_alt_name, "DNS:localhost,IP:127.0.0.1") &&
	          tls_fixture_extend(cert, NID_basic_constraints, "critical,CA:TRUE") && X509_sign(cert, key, EVP_sha256()) > 0;
	FILE *cert_file = fopen(fixture->cert, "w");
	FILE *key_file = fopen(fixture->key, "w");
	ok = ok && cert_file && key_file && PEM_write_X509(cert_file, cert) == 1 &&
	     PEM_write_PrivateKey(key_file, key, NULL, NULL, 0, NULL, NULL) == 1;
	if (cert_file)
		fclose(cert_file);
	if (key_file)
		fclose(key_file);
	X509_free(cert);
	EVP_PKEY_free(key);
	return ok;
}

static inline void tls_fixture_remove(const struct tls_fixture *fixture)
{
	unlink(fixture->cert);
	unlink(fixture->key);
	rmdir(fixture->folder);
}

#endif
