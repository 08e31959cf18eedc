/* libdarkbloom-client: chat with models behind a Darkbloom coordinator, so that nobody on the way reads along.
 *
 *   sealed   the request is encrypted to the coordinator's own key, whatever ends the TLS connection before it
 *   blind    the request is encrypted to the key of one attested provider; the coordinator cannot open it
 *
 * Blocking; a client is for one thread at a time. Link with the libraries that `pkg-config --libs --static darkbloom-client`
 * names. docs/reference/sealed-transport.md and docs/reference/blind-mode.md say what is sent and what each mode protects from.
 */
#ifndef DARKBLOOM_CLIENT_H
#define DARKBLOOM_CLIENT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct darkbloom_client;

enum darkbloom_mode { DARKBLOOM_CLEAR, DARKBLOOM_SEALED, DARKBLOOM_BLIND };

struct darkbloom_client_options {
	const char *url;     /* "https://coordinator.example" */
	const char *api_key; /* "sk-db-..." */
	const char *ca_path; /* PEM file of the authority to trust, or NULL for the system's */
	enum darkbloom_mode mode;
	int secure_enclave_only; /* blind: only providers whose signing key says that it is in a Secure Enclave */
	const char *const
	    *trusted_keys; /* blind: only providers with one of these se_public_key; NULL-terminated, or NULL for any */
};

struct darkbloom_result {
	int status;      /* of HTTP, 0 when no answer came */
	char error[400]; /* a sentence, empty when everything went well */
	/* Blind mode: what the provider has signed, and what the client has checked against everything that came. */
	uint64_t prompt_tokens, completion_tokens;
};

/* Copies its options. NULL, with a sentence in `error`, when they cannot be used. */
struct darkbloom_client *darkbloom_client_new(const struct darkbloom_client_options *options, char *error, size_t error_size);
void darkbloom_client_free(struct darkbloom_client *client);

/* Sends a chat request (the JSON body of /v1/chat/completions, with "stream": true) and calls on_event with the data of each
 * event,
 * "[DONE]" last; not zero from on_event stops the answer. Returns 0 when the answer came whole and passed every check, -1
 * otherwise; *result says the rest. */
int darkbloom_client_chat(struct darkbloom_client *client, const char *json, size_t json_len,
                          int (*on_event)(const char *data, size_t data_len, void *user), void *user,
                          struct darkbloom_result *result);

#ifdef __cplusplus
}
#endif

#endif
