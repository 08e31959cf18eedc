/* What a provider says about itself when it connects (protocol-and-trust 3.1) and when its models change (3.5).
 * Texts are borrowed as struct wire_message says; an absent text is empty. Values are already clamped (routing 1). */
#ifndef WIRE_REGISTER_H
#define WIRE_REGISTER_H

#include "core/str.h"
#include "wire/types.h"

#define WIRE_MAX_MODELS 4096 /* in one register or models_update */

struct wire_hardware {
	struct str machine_model; /* "Mac16,6" */
	struct str chip_name;
	struct str chip_family; /* M1..M5 | Unknown */
	struct str chip_tier;   /* Base | Pro | Max | Ultra | Unknown */
	int64_t memory_gb;      /* 0..1024 */
	double memory_available_gb;
	int64_t cpu_total, cpu_performance, cpu_efficiency;
	int64_t gpu_cores;
	double memory_bandwidth_gbs; /* 0..2000 */
};

struct wire_model {
	struct str id;
	int64_t size_bytes;
	struct str model_type;   /* optional */
	struct str quantization; /* optional */
	struct str weight_hash;  /* hex SHA-256, optional */
	bool is_vision;
	enum wire_tri template_render_ok; /* WIRE_FALSE differs from WIRE_UNKNOWN and survives */
	/* extensions (docs/reference/protocol-extensions.md) */
	struct str template_fault; /* why template_render_ok is false: "jinja_template", ...; else empty */
	int64_t context_length;    /* tokens one sequence may have; 0 = not said */
	uint32_t capabilities;     /* enum wire_capability, or-ed; 0 = not said */
};

/* What a model on this provider can be asked for. */
enum wire_capability {
	WIRE_CAN_CHAT = 1 << 0, /* answers conversations; models that only embed do not */
	WIRE_CAN_EMBED = 1 << 1,
	WIRE_CAN_COUNT = 1 << 2, /* says how many tokens a conversation has, without answering it */
	WIRE_CAN_TOOLS = 1 << 3,
	WIRE_CAN_REASON = 1 << 4,
	WIRE_CAN_JSON = 1 << 5,
	WIRE_CAN_SCHEMA = 1 << 6,
	WIRE_CAN_LOGPROBS = 1 << 7,
	WIRE_CAN_CHOOSE = 1 << 8,  /* gives several answers to one request */
	WIRE_CAN_PROMPTS = 1 << 9, /* takes several plain prompts in one request */
	WIRE_CAN_RESUME = 1 << 10, /* goes on with an answer that another provider began */
};
#define WIRE_CAPABILITIES 11
const char *wire_capability_name(unsigned bit); /* of 1 << bit: "embeddings"; NULL when there is none */

struct wire_models {
	struct wire_model *at;
	size_t count;
};

struct wire_privacy {
	bool text_backend_inprocess;
	bool text_proxy_disabled;
	bool python_runtime_locked;
	bool dangerous_modules_blocked;
	bool sip_enabled;
	bool anti_debug_enabled;
	bool core_dumps_disabled;
	bool env_scrubbed;
	bool hypervisor_active;
};

struct wire_register {
	struct wire_hardware hardware;
	struct wire_models models;
	struct str backend; /* mlx-swift | inprocess-mlx | our own */
	struct str version;
	struct str public_key; /* base64 of K as it came, also when it is not 32 bytes: signatures compare the text */
	bool encrypted_response_chunks;
	struct str attestation; /* raw JSON of the signed attestation, byte for byte (5.2); empty when absent */
	double prefill_tps;     /* 0..5000, 0 = absent */
	double decode_tps;      /* 0..500, 0 = absent */
	struct str auth_token;  /* secret */
	bool private_only;
	struct str apns_device_token, apns_environment;
	struct str python_hash, runtime_hash;
	struct wire_pairs template_hashes; /* name -> hex SHA-256 */
	bool has_privacy;                  /* privacy_capabilities was given; without it never routable */
	struct wire_privacy privacy;
	bool flow_credit;   /* extension: understands per-request credit (docs/reference/protocol-extensions.md) */
	bool plain_prompts; /* extension: runs a body with a prompt in place of messages (likewise) */
	struct str region;  /* extension: where its owner says it stands, as it came (wire/region.h); empty = not said */
	bool blind;         /* extension: opens bodies that a consumer sealed (docs/reference/blind-mode.md) */
};

/* 3.5: only the builds that changed. */
struct wire_models_update {
	struct wire_models models;
};

#endif
