/* Base rewards (billing 8.3): looks which machines are fit to be rewarded, and settles closed periods one after the other,
 * those missed within the last 24 hours too. Each look and each step is short. Thread: the loop's. */
#ifndef COORDINATOR_REWARD_KEEPER_H
#define COORDINATOR_REWARD_KEEPER_H

#include "coordinator/money/ledger.h"
#include "coordinator/money/rewards.h"
#include "coordinator/store/store_rewards.h"

struct reward_keeper;

struct reward_keeper_options {
	struct net_loop *loop;
	struct store *store;
	struct ledger *ledger;
	/* Calls see for machines that are fit to be rewarded now; of the stretch: device, provider_key, account_id, model,
	 * memory_gb. In parts: from_first begins, and false says that everybody was looked at. */
	bool (*look)(void *source, bool from_first, void (*see)(const struct store_stretch *machine, void *user), void *user);
	void *source;
	struct reward_terms terms; /* start_us and left_uusd are not looked at */
	const char *const *models; /* more hardware models, "NAME=GB"; borrowed */
	size_t model_count;
	uint32_t look_ms;             /* between two looks at the fleet; 0 = 45,000 */
	int64_t (*clock)(void);       /* wall time; NULL = clock_wall_us. For tests */
	uint64_t (*mono_clock)(void); /* NULL = clock_mono_us. For tests */
};
/* NULL without memory. The first look is at the first step, or when the timer says so. */
struct reward_keeper *reward_keeper_new(const struct reward_keeper_options *options);
const struct reward_terms *reward_keeper_terms(const struct reward_keeper *keeper);
/* One whole look and, when none is on its way, the settlement of what is due: what the timer does, which lets others in between
 * the parts of a look. */
void reward_keeper_step(struct reward_keeper *keeper);
bool reward_keeper_is_busy(const struct reward_keeper *keeper);
/* Before the store is closed; operations under way end in store_close, and nothing follows them. */
void reward_keeper_stop(struct reward_keeper *keeper);
void reward_keeper_free(struct reward_keeper *keeper); /* after store_close */

#endif
