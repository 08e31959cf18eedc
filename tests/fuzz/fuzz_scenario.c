/* Scenario files of the simulator: any bytes give a scenario within its bounds or an error with a sentence. */
#include <stdint.h>
#include <stdlib.h>

#include "swarm/sim/workload.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct sim_scenario scenario;
	struct error error = {.code = DB_OK};
	enum db_err err = sim_scenario_parse((struct str){(const char *)data, size}, &scenario, &error);
	if (err) {
		if (!error.text[0])
			abort();
		return 0;
	}
	if (sim_scenario_boxes(&scenario) > SIM_MAX_BOXES || !scenario.model_count || !scenario.group_count)
		abort();
	for (uint32_t g = 0; g < scenario.group_count; g++) {
		uint16_t offered[SIM_MAX_BOX_MODELS];
		uint32_t count = sim_offered(&scenario, &scenario.groups[g], 7, offered);
		if (!count || count > SIM_MAX_BOX_MODELS)
			abort();
		for (uint32_t i = 0; i < count; i++)
			if (offered[i] >= scenario.model_count)
				abort();
	}
	return 0;
}
