#include "provider/node/node_internal.h"

#include <stdlib.h>

#include "core/log.h"
#include "wire/status.h"

/* An answer in the making. Probing the posture and signing in an enclave take milliseconds, so a worker does them. */
struct answer {
	struct node *node;
	uint64_t session;
	struct arena *arena;
	struct wire_challenge challenge;
	struct wire_attestation_response reply;
	enum db_err err;
};

static void work(void *arg)
{
	struct answer *answer = arg;
	struct platform_posture posture;
	platform_posture(&posture);
	answer->reply.hypervisor_active = wire_tri_of(posture.hypervisor_active);
	answer->reply.rdma_disabled = wire_tri_of(posture.rdma_disabled);
	answer->reply.sip_enabled = wire_tri_of(posture.sip_enabled);
	answer->reply.secure_boot_enabled = wire_tri_of(posture.secure_boot_enabled);
	answer->err = status_sign(&answer->reply, &answer->challenge, &answer->node->signer, answer->arena);
}

static void done(void *arg)
{
	struct answer *answer = arg;
	struct node *node = answer->node;
	node->workers--;
	if (answer->err) {
		log_error("node.challenge_failed", "error=%s", error_name(answer->err));
	} else if (answer->session == node->session && !node->freed) {
		struct wire_message message = {.type = WIRE_ATTESTATION_RESPONSE, .as.attestation_response = answer->reply};
		node_send(node, &message);
	}
	arena_free(answer->arena);
	free(answer);
	node_release(node);
}

/* Hashes of the models that are loaded. */
static struct wire_pairs resident_hashes(const struct node *node, struct arena *arena)
{
	size_t count = residency_count(node->options.residency);
	struct wire_pairs pairs = {arena_alloc(arena, (count + 1) * sizeof *pairs.at), 0};
	for (size_t i = 0; pairs.at && i < count; i++) {
		struct residency_view view;
		residency_view(node->options.residency, i, &view);
		if (view.state == RESIDENCY_LOADED && view.model->weight_hash[0])
			pairs.at[pairs.count++] = (struct wire_pair){str_of(view.model->id), str_of(view.model->weight_hash)};
	}
	return pairs;
}

void node_answer_challenge(struct node *node, const struct wire_challenge *challenge)
{
	if (node->workers >= NODE_MAX_WORKERS) {
		log_warn("node.challenge_dropped", "workers=%u", node->workers);
		return;
	}
	struct arena *arena = arena_new(0);
	struct answer *answer = calloc(1, sizeof *answer);
	if (!arena || !answer) {
		arena_free(arena);
		free(answer);
		return;
	}
	*answer = (struct answer){
	    .node = node,
	    .session = node->session,
	    .arena = arena,
	    .challenge = {arena_str(arena, challenge->nonce), arena_str(arena, challenge->timestamp)},
	    .reply = {.public_key = str_of(node->box_public_b64),
	              .binary_hash = str_of(node->binary_hash),
	              .model_hashes = resident_hashes(node, arena)},
	};
	node->workers++;
	net_work(node->loop, work, done, answer);
}
