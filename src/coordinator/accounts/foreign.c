#include "coordinator/accounts/foreign.h"

#include <stdlib.h>

#include "core/clock.h"
#include "core/id.h"
#include "core/list.h"
#include "core/log.h"
#include "core/map.h"
#include "crypto/hash.h"
#include "crypto/jwt.h"
#include "crypto/secret.h"

#define KNOWN_MAX     10000
#define KNOWN_KEEP_US INT64_C(60000000)
#define SKEW_S        60

/* A token that was good a moment ago. */
struct known {
	uint8_t hash[SHA256_BYTES];
	struct store_person person;
	int64_t until_us; /* wall time */
	struct list_link age;
};

/* Outlives the rest while a worker uses it. Counted on the loop thread. */
struct key_ref {
	struct jwt_key *key;
	unsigned uses;
};

struct foreign {
	struct foreign_options options;
	struct key_ref *key;
	struct map known;
	struct list by_age;   /* oldest first */
	struct list checking; /* jobs that a worker has */
};

/* One token on its way. */
struct job {
	struct foreign *foreign; /* NULL: it is gone, and a worker has still to come back */
	struct list_link link;
	struct session_lookup *lookup;
	struct key_ref *key;
	struct arena *arena;
	uint8_t hash[SHA256_BYTES];
	struct jwt jwt;
	enum db_err verified;
	int64_t expires_s;
};

static void drop_key(struct key_ref *key)
{
	if (--key->uses > 0)
		return;
	jwt_key_free(key->key);
	free(key);
}

enum db_err foreign_new(const struct foreign_options *options, struct foreign **out, struct error *error)
{
	struct foreign *foreign = calloc(1, sizeof *foreign);
	struct key_ref *key = calloc(1, sizeof *key);
	*out = NULL;
	if (!foreign || !key) {
		free(foreign);
		free(key);
		return error_set(error, DB_E_NOMEM, "There is not enough memory to start.");
	}
	key->uses = 1;
	foreign->key = key;
	foreign->options = *options;
	map_init(&foreign->known);
	list_init(&foreign->by_age);
	list_init(&foreign->checking);
	enum db_err err = jwt_key_from_pem(options->key_pem, &key->key, error);
	if (err)
		foreign_free(foreign);
	else
		*out = foreign;
	return err;
}

static void forget(struct foreign *foreign, struct known *known)
{
	map_remove(&foreign->known, (struct str){(const char *)known->hash, sizeof known->hash});
	list_remove(&foreign->by_age, &known->age);
	free(known);
}

void foreign_free(struct foreign *foreign)
{
	struct list_link *link;
	if (!foreign)
		return;
	while ((link = list_first(&foreign->by_age)))
		forget(foreign, LIST_OF(link, struct known, age));
	map_free(&foreign->known);
	while ((link = list_pop_front(&foreign->checking)))
		LIST_OF(link, struct job, link)->foreign = NULL;
	drop_key(foreign->key);
	free(foreign);
}

/* --- memory --- */

static const struct known *recall(struct foreign *foreign, const uint8_t hash[SHA256_BYTES])
{
	struct known *known = map_get(&foreign->known, (struct str){(const char *)hash, SHA256_BYTES});
	if (!known || !secret_equal(known->hash, hash, SHA256_BYTES))
		return NULL;
	if (clock_wall_us() < known->until_us)
		return known;
	forget(foreign, known);
	return NULL;
}

static void remember(struct foreign *foreign, const struct job *job, const struct store_person *person)
{
	int64_t until_us = clock_wall_us() + KNOWN_KEEP_US, ends_us = (job->expires_s + SKEW_S) * 1000000;
	struct known *known = map_get(&foreign->known, (struct str){(const char *)job->hash, SHA256_BYTES});
	if (known)
		forget(foreign, known);
	if (foreign->known.count >= KNOWN_MAX)
		forget(foreign, LIST_OF(list_first(&foreign->by_age), struct known, age));
	known = calloc(1, sizeof *known);
	if (!known)
		return;
	memcpy(known->hash, job->hash, sizeof known->hash);
	known->person = *person;
	known->until_us = ends_us < until_us ? ends_us : until_us;
	if (map_put(&foreign->known, (struct str){(const char *)known->hash, sizeof known->hash}, known, NULL)) {
		free(known);
		return;
	}
	list_push_back(&foreign->by_age, &known->age);
}

/* --- a token --- */

static void end(struct job *job, const struct store_person *person, enum db_err otherwise)
{
	session_lookup_finish(job->lookup, person, otherwise);
	arena_free(job->arena);
	free(job);
}

static void on_person(const struct store_person *person, const struct error *error, void *user)
{
	struct job *job = user;
	if (person && job->foreign)
		remember(job->foreign, job, person);
	end(job, person, error ? DB_E_IO : DB_E_DENIED);
}

static void check_now(void *arg)
{
	struct job *job = arg;
	job->verified = jwt_verify(&job->jwt, job->key->key);
}

static void take_in(struct job *job)
{
	struct foreign *foreign = job->foreign;
	struct jwt_claims claims;
	struct error why;
	struct store_identity identity = {.may_create = true};
	struct jwt_rules rules = {.issuer = str_of(foreign->options.issuer),
	                          .audience = str_of(foreign->options.audience),
	                          .now_s = clock_wall_us() / 1000000,
	                          .skew_s = SKEW_S};
	enum db_err err = jwt_check(&job->jwt, &rules, &claims, &why);
	if (err || !str_copy(claims.subject, identity.subject, sizeof identity.subject)) {
		log_info("foreign.refused", "reason=\"%s\"", err ? why.text : "The subject is too long.");
		end(job, NULL, DB_E_DENIED);
		return;
	}
	job->expires_s = claims.expires_s;
	str_copy(rules.issuer, identity.issuer, sizeof identity.issuer);
	str_copy(claims.email, identity.email, sizeof identity.email);
	str_copy(str_sub(claims.name, 0, sizeof identity.name - 1), identity.name, sizeof identity.name);
	id_uuid4(identity.account_id);
	store_identity_login(foreign->options.store, &identity, on_person, job);
}

static void on_checked(void *arg)
{
	struct job *job = arg;
	drop_key(job->key);
	if (!job->foreign) {
		end(job, NULL, DB_E_DENIED);
		return;
	}
	list_remove(&job->foreign->checking, &job->link);
	if (job->verified)
		end(job, NULL, DB_E_DENIED);
	else
		take_in(job);
}

enum db_err foreign_resolve(struct foreign *foreign, struct str token, struct accounts_wait *wait)
{
	uint8_t hash[SHA256_BYTES];
	struct session_lookup *lookup;
	sha256(token.at, token.len, hash);
	const struct known *known = recall(foreign, hash);
	if (known) {
		if (!(lookup = session_lookup_new(foreign->options.sessions, wait)))
			return DB_E_IO;
		session_lookup_finish(lookup, &known->person, DB_E_DENIED);
		return DB_E_AGAIN;
	}
	struct job *job = calloc(1, sizeof *job);
	if (!job || !(job->arena = arena_new(1u << 20))) {
		free(job);
		return DB_E_IO;
	}
	memcpy(job->hash, hash, sizeof job->hash);
	struct str copy = arena_str(job->arena, token);
	bool is_token = copy.at && jwt_parse(copy, job->arena, &job->jwt, NULL) == DB_OK;
	if (!is_token || !(job->lookup = session_lookup_new(foreign->options.sessions, wait))) {
		arena_free(job->arena);
		free(job);
		return is_token ? DB_E_IO : DB_E_DENIED;
	}
	job->foreign = foreign;
	job->key = foreign->key;
	job->key->uses++;
	list_push_back(&foreign->checking, &job->link);
	net_work(foreign->options.loop, check_now, on_checked, job);
	return DB_E_AGAIN;
}
