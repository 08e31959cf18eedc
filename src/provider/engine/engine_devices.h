/* The processors beside the CPU that the engine's library found. Thread: any. */
#ifndef PROVIDER_ENGINE_DEVICES_H
#define PROVIDER_ENGINE_DEVICES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct engine_device {
	bool dedicated; /* it has memory of its own; else it uses the machine's */
	uint64_t total_bytes, free_bytes;
};
/* Graphics processors only; returns how many there are, of which at most `max` are written. */
size_t engine_devices(struct engine_device *out, size_t max);

#endif
