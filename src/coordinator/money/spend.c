#include "coordinator/money/spend.h"

#include "core/clock.h"

void spend_roll(struct store_spend *spend, int64_t day)
{
	if (day <= spend->day)
		return;
	spend->today = 0;
	if (clock_week_start(day) > spend->day)
		spend->week = 0;
	if (clock_month_start(day) > spend->day)
		spend->month = 0;
	spend->day = day;
}

int64_t spend_in(const struct store_spend *spend, enum store_window window)
{
	switch (window) {
	case STORE_WINDOW_DAY:
		return spend->today;
	case STORE_WINDOW_WEEK:
		return spend->week;
	case STORE_WINDOW_MONTH:
		return spend->month;
	default:
		return spend->total;
	}
}

void spend_add(struct store_spend *spend, int64_t day, int64_t amount_uusd)
{
	spend_roll(spend, day);
	spend->today += amount_uusd;
	spend->week += amount_uusd;
	spend->month += amount_uusd;
	spend->total += amount_uusd;
}

int64_t spend_room(struct spend_group *group, int64_t day)
{
	if (!group->limited)
		return INT64_MAX;
	spend_roll(&group->spent, day);
	int64_t used = spend_in(&group->spent, group->window) + group->held;
	return used < group->limit_uusd ? group->limit_uusd - used : 0;
}

int64_t spend_since(enum store_window window, int64_t day)
{
	switch (window) {
	case STORE_WINDOW_DAY:
		return day;
	case STORE_WINDOW_WEEK:
		return clock_week_start(day);
	case STORE_WINDOW_MONTH:
		return clock_month_start(day);
	default:
		return 0;
	}
}
