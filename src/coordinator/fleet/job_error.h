/* What a provider's error means (routing 11.2, http-api 2.6, protocol-and-trust 11.2). Pure. */
#ifndef COORDINATOR_JOB_ERROR_H
#define COORDINATOR_JOB_ERROR_H

#include "coordinator/routing/routing.h"
#include "core/str.h"

struct job_error {
	bool capacity;              /* busy or too big, not broken: another provider, or this one later */
	bool deterministic;         /* no other provider could do better */
	bool fault;                 /* blames the provider */
	bool cancelled;             /* the provider did as it was told */
	bool cool_down;             /* keep the model off this provider for a while */
	enum route_outcome outcome; /* what the provider's breakers are told: by its reason code, else by status and text */
};

struct job_error job_error_classify(int status, struct str text, struct str reason);

#endif
