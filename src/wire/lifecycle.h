/* Loading, downloading and swapping models (protocol-and-trust 3.5, 11.3). */
#ifndef WIRE_LIFECYCLE_H
#define WIRE_LIFECYCLE_H

#include "wire/types.h"

#define WIRE_MAX_DESIRED 4096

/* C->P. */
struct wire_load_model {
	struct str model_id;
};

/* C->P. */
struct wire_prefetch_model {
	struct str model_id;
	int64_t priority; /* higher first; 0 when absent */
};

struct wire_desired_model {
	struct str model_name;
	struct str desired_build;
	struct str previous_build; /* optional */
	struct str weight_hash;    /* of the desired build, as the operator pinned it; optional */
};

/* C->P. An empty list is meaningful and is always written. */
struct wire_desired_models {
	struct wire_desired_model *models;
	size_t count;
};

enum wire_load_state { WIRE_LOAD_UNKNOWN, WIRE_LOAD_STARTED, WIRE_LOAD_SUCCEEDED, WIRE_LOAD_FAILED };

/* P->C. */
struct wire_load_model_status {
	struct str model_id;
	enum wire_load_state status;
	struct str error; /* optional */
};

/* pending, verifying and loading are ours (docs/reference/protocol-extensions.md). */
enum wire_prefetch_state {
	WIRE_PREFETCH_UNKNOWN,
	WIRE_PREFETCH_PENDING,
	WIRE_PREFETCH_STARTED,
	WIRE_PREFETCH_DOWNLOADING,
	WIRE_PREFETCH_VERIFYING,
	WIRE_PREFETCH_LOADING,  /* into memory */
	WIRE_PREFETCH_VERIFIED, /* and offered, when it was desired */
	WIRE_PREFETCH_FAILED
};

/* P->C. */
struct wire_prefetch_model_status {
	struct str model_id;
	enum wire_prefetch_state status;
	int64_t bytes_done, bytes_total; /* 0 = not said */
	struct str error;                /* optional */
};

const char *wire_prefetch_name(enum wire_prefetch_state state);

#endif
