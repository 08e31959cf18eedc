/* Settings about providers: whom to trust, and who gets which requests. */
#include "coordinator/config_internal.h"

#include "coordinator/routing/routing.h"
#include "coordinator/routing/share.h"

#define AT(member) offsetof(struct coordinator_config, member)

const char *const coordinator_trust_names[] = {"none", "self_signed", "hardware", NULL};
_Static_assert(ROUTE_TRUST_NONE == 0 && ROUTE_TRUST_SELF_SIGNED == 1 && ROUTE_TRUST_HARDWARE == 2,
               "the names follow enum route_trust");

static const struct config_field fields[] = {
    {.name = "trust.min_trust",
     .env = "DARKBLOOM_MIN_TRUST",
     .type = CONFIG_ENUM,
     .offset = AT(min_trust),
     .fallback = "self_signed",
     .choices = coordinator_trust_names,
     .help = "Trust that a provider needs before it gets requests: `hardware` is for production, `self_signed` proves a stable "
             "key and posture without a manufacturer's word, `none` is for tests."},
    {.name = "trust.backends",
     .env = "DARKBLOOM_BACKENDS",
     .type = CONFIG_STRINGS,
     .offset = AT(backends),
     .fallback = "mlx-swift,inprocess-mlx,llama.cpp",
     .help = "Engines that providers may report in `backend`."},
    {.name = "trust.min_provider_version",
     .env = "DARKBLOOM_MIN_PROVIDER_VERSION",
     .type = CONFIG_STRING,
     .offset = AT(min_provider_version),
     .fallback = "",
     .help = "Providers below this version get no requests; empty accepts all."},
    {.name = "trust.challenge_interval_s",
     .env = "DARKBLOOM_CHALLENGE_INTERVAL",
     .type = CONFIG_INT,
     .offset = AT(challenge_interval_s),
     .fallback = "300",
     .min = 1,
     .max = 86400,
     .help = "Seconds between liveness challenges of a provider."},
    {.name = "trust.challenge_timeout_s",
     .env = "DARKBLOOM_CHALLENGE_TIMEOUT",
     .type = CONFIG_INT,
     .offset = AT(challenge_timeout_s),
     .fallback = "30",
     .min = 1,
     .max = 3600,
     .help = "Seconds that a provider has to answer one."},
    {.name = "trust.heartbeat_timeout_s",
     .env = "DARKBLOOM_HEARTBEAT_TIMEOUT",
     .type = CONFIG_INT,
     .offset = AT(heartbeat_timeout_s),
     .fallback = "90",
     .min = 1,
     .max = 3600,
     .help = "Seconds without a heartbeat after which a provider counts as gone."},

    {.name = "routing.account_shares",
     .env = "DARKBLOOM_ACCOUNT_SHARES",
     .type = CONFIG_STRINGS,
     .offset = AT(account_shares),
     .fallback = "",
     .help =
         "What accounts get of a model whose requests wait: `ACCOUNT=WEIGHT` (0.01 to 100; others have 1), `ACCOUNT=PRIORITY` "
         "(batch, normal, interactive) or `ACCOUNT=WEIGHT:PRIORITY`."},
    {.name = "routing.dedicated_models",
     .env = "DARKBLOOM_DEDICATED_MODELS",
     .type = CONFIG_STRINGS,
     .offset = AT(dedicated_models),
     .fallback = "gemma-4",
     .help = "Families of models that have machines of their own, by a part of their ids: others' requests for them go only to "
             "providers that offer nothing but models of that family. Empty: none."},
    {.name = "routing.memory_interval_s",
     .env = "DARKBLOOM_MEMORY_INTERVAL",
     .type = CONFIG_INT,
     .offset = AT(memory_interval_s),
     .fallback = "60",
     .min = 0,
     .max = 86400,
     .help =
         "Seconds between two writes of what routing learnt (breakers, reputation, rates, lengths of answers) to "
         "`routing_memory` in the data folder, from where it comes back after a restart; 0: only when the coordinator ends."},
    {.name = "routing.warm_pool",
     .env = "DARKBLOOM_WARM_POOL",
     .type = CONFIG_BOOL,
     .offset = AT(warm_pool),
     .fallback = "true",
     .help = "Tell idle providers to load a model before, or as soon as, demand outgrows those that have it in memory."},
    {.name = "routing.warm_interval_s",
     .env = "DARKBLOOM_WARM_INTERVAL",
     .type = CONFIG_INT,
     .offset = AT(warm_interval_s),
     .fallback = "10",
     .min = 1,
     .max = 3600,
     .help = "Seconds between two looks at the demand; a request that has to wait causes one at once."},
    {.name = "routing.keep_warm",
     .env = "DARKBLOOM_KEEP_WARM",
     .type = CONFIG_STRINGS,
     .offset = AT(keep_warm),
     .fallback = "",
     .help = "Models that so many providers keep in memory whatever the demand, each as `MODEL=N`."},
};

bool coordinator_config_keep_warm(struct str text, struct str *model, uint32_t *providers)
{
	uint64_t count;
	struct str number = str_cut(text, '=', model);
	if (!model->len || !str_to_u64(number, &count) || count > UINT32_MAX)
		return false;
	*providers = (uint32_t)count;
	return true;
}

static enum db_err check(struct coordinator_config *config, struct arena *arena, struct error *error)
{
	struct share share;
	struct str model;
	uint32_t providers;
	(void)arena;
	if (config->backends.count == 0)
		return error_set(error, DB_E_INVALID, "trust.backends must name at least one backend.");
	for (size_t i = 0; i < config->account_shares.count; i++)
		if (share_read(str_of(config->account_shares.at[i]), &share))
			return error_set(error, DB_E_INVALID,
			                 "routing.account_shares must be ACCOUNT=WEIGHT, ACCOUNT=PRIORITY or both, not %s.",
			                 config->account_shares.at[i]);
	for (size_t i = 0; i < config->keep_warm.count; i++)
		if (!coordinator_config_keep_warm(str_of(config->keep_warm.at[i]), &model, &providers))
			return error_set(error, DB_E_INVALID, "routing.keep_warm must hold entries such as acme/model=2, not %s.",
			                 config->keep_warm.at[i]);
	return DB_OK;
}

const struct config_part coordinator_fleet_settings = {fields, sizeof fields / sizeof *fields, check};
