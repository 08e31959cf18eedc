/* Whatever a provider sends, one message a line, the session survives it: registration, heartbeats, model updates, replies. */
#include <string.h>

#include "coordinator/fleet/fleet_internal.h"
#include "core/log.h"
#include "crypto/secret.h"

static struct fleet *make_fleet(void)
{
	static struct net_loop *loop;
	struct fleet_options options = {.min_trust = ROUTE_TRUST_NONE};
	if (!loop) {
		log_set_level(LOG_OFF);
		(void)crypto_init();
		loop = net_loop_new(NULL);
	}
	return loop ? fleet_new(loop, NULL, NULL, &options) : NULL;
}

/* Registrations that ask for a worker are left out: their checks would outlive the input (fuzz_attestation has them). */
static bool wants_worker(struct str line)
{
	return memmem(line.at, line.len, "attestation", 11) != NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fleet *fleet = make_fleet();
	struct session *session = fleet ? session_new(fleet) : NULL;
	struct str rest = {(const char *)data, size}, line;
	struct route_model_view views[8];
	if (!session)
		return 0;
	while (rest.at && !session->closing) {
		rest = str_cut(rest, '\n', &line);
		if (!wants_worker(line))
			session_take(session, line);
		(void)fleet_models(fleet, views, 8);
	}
	fleet_free(fleet);
	return 0;
}
