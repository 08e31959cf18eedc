#include "provider/engine/engine_devices.h"

#include <ggml-backend.h>

size_t engine_devices(struct engine_device *out, size_t max)
{
	size_t count = 0;
	for (size_t i = 0; i < ggml_backend_dev_count(); i++) {
		ggml_backend_dev_t device = ggml_backend_dev_get(i);
		enum ggml_backend_dev_type type = ggml_backend_dev_type(device);
		if (type != GGML_BACKEND_DEVICE_TYPE_GPU && type != GGML_BACKEND_DEVICE_TYPE_IGPU)
			continue;
		size_t free_bytes = 0, total_bytes = 0;
		ggml_backend_dev_memory(device, &free_bytes, &total_bytes);
		if (count < max)
			out[count] = (struct engine_device){type == GGML_BACKEND_DEVICE_TYPE_GPU, total_bytes, free_bytes};
		count++;
	}
	return count;
}
