/* Renders a model's chat template over fixtures, through the same sanitiser and renderer as requests (inference 3.5): a
 * template that cannot take what the API promises is found when the model is loaded. Thread: where templates may be used. */
#ifndef PROVIDER_TEMPLATE_CHECK_H
#define PROVIDER_TEMPLATE_CHECK_H

#include "core/str.h"
#include "provider/engine/chat_shim.h"

enum template_fault {
	TEMPLATE_FINE,
	TEMPLATE_BROKEN,       /* plain chat, a tool flow, or an empty answer at the end */
	TEMPLATE_CHANNEL_TAGS, /* an answer with channel tags in it */
	TEMPLATE_NULLS,        /* a tool flow with nulls */
	TEMPLATE_NO_MEMORY,
};
/* The word of the protocol: "jinja_template", "jinja_channel_tags", "jinja_null_bridge", "model_load"; "" when it is fine. */
const char *template_fault_name(enum template_fault fault);

/* `architecture`: as the model says; its family's corrections are applied. The first fault, the plainest fixture first. A
 * template that refuses tools with words of its own is not at fault: requests with tools are then refused in those words. */
enum template_fault template_check(const struct chat_templates *templates, struct str architecture);

#endif
