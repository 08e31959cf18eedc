#include "core/clock.h"

#include <stdio.h>
#include <time.h>

#define US_PER_S  INT64_C(1000000)
#define S_PER_DAY INT64_C(86400)

uint64_t clock_mono_us(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

uint64_t clock_thread_cpu_us(void)
{
	struct timespec used;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
	return (uint64_t)used.tv_sec * 1000000u + (uint64_t)used.tv_nsec / 1000u;
}

int64_t clock_wall_us(void)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t)now.tv_sec * US_PER_S + now.tv_nsec / 1000;
}

static int64_t floor_div(int64_t a, int64_t b)
{
	return a / b - (a % b < 0);
}

/* Days since 1970-01-01 of a Gregorian date, counting years from March so that the leap day comes last. */
static int64_t days_of(int64_t year, int64_t month, int64_t day)
{
	int64_t y = month <= 2 ? year - 1 : year;
	int64_t era = floor_div(y, 400), year_of_era = y - era * 400;
	int64_t day_of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
	return era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719468;
}

static void date_of(int64_t days, int64_t *year, int64_t *month, int64_t *day)
{
	int64_t z = days + 719468, era = floor_div(z, 146097), day_of_era = z - era * 146097;
	int64_t year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
	int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
	int64_t shifted = (5 * day_of_year + 2) / 153;
	*day = day_of_year - (153 * shifted + 2) / 5 + 1;
	*month = shifted < 10 ? shifted + 3 : shifted - 9;
	*year = year_of_era + era * 400 + (*month <= 2);
}

static void put_digits(char *out, int64_t value, int digits)
{
	for (int i = digits - 1; i >= 0; i--, value /= 10)
		out[i] = (char)('0' + value % 10);
}

void clock_format_rfc3339(int64_t wall_us, char out[CLOCK_RFC3339_SIZE])
{
	/* The format has four digits for the year: what lies outside shows as its first or last second. */
	int64_t seconds = floor_div(wall_us, US_PER_S);
	int64_t first = days_of(0, 1, 1) * S_PER_DAY, last = days_of(10000, 1, 1) * S_PER_DAY - 1;
	seconds = seconds < first ? first : seconds > last ? last : seconds;
	int64_t days = floor_div(seconds, S_PER_DAY), rest = seconds - days * S_PER_DAY;
	int64_t year, month, day;
	date_of(days, &year, &month, &day);
	memcpy(out, "0000-00-00T00:00:00Z", CLOCK_RFC3339_SIZE);
	put_digits(out, year, 4);
	put_digits(out + 5, month, 2);
	put_digits(out + 8, day, 2);
	put_digits(out + 11, rest / 3600, 2);
	put_digits(out + 14, rest / 60 % 60, 2);
	put_digits(out + 17, rest % 60, 2);
}

/* Takes `digits` decimal digits from the front of *text. */
static bool take_number(struct str *text, size_t digits, int64_t max, int64_t *out)
{
	uint64_t value;
	if (text->len < digits || !str_to_u64(str_sub(*text, 0, digits), &value) || value > (uint64_t)max)
		return false;
	*text = str_sub(*text, digits, text->len);
	*out = (int64_t)value;
	return true;
}

static bool take_char(struct str *text, char c)
{
	if (text->len == 0 || text->at[0] != c)
		return false;
	*text = str_sub(*text, 1, text->len);
	return true;
}

static int64_t days_in_month(int64_t year, int64_t month)
{
	return month == 12 ? 31 : days_of(year, month + 1, 1) - days_of(year, month, 1);
}

static bool take_date(struct str *text, int64_t *days)
{
	int64_t year, month, day;
	if (!take_number(text, 4, 9999, &year) || !take_char(text, '-') || !take_number(text, 2, 12, &month) ||
	    !take_char(text, '-') || !take_number(text, 2, 31, &day))
		return false;
	if (month < 1 || day < 1 || day > days_in_month(year, month))
		return false;
	*days = days_of(year, month, day);
	return true;
}

static bool take_time(struct str *text, int64_t *us)
{
	int64_t hour, minute, second, fraction = 0, unit = US_PER_S / 10;
	if (!take_number(text, 2, 23, &hour) || !take_char(text, ':') || !take_number(text, 2, 59, &minute) ||
	    !take_char(text, ':') || !take_number(text, 2, 59, &second))
		return false;
	if (take_char(text, '.')) {
		int64_t digit;
		if (!take_number(text, 1, 9, &digit))
			return false;
		do {
			fraction += digit * unit;
			unit /= 10;
		} while (take_number(text, 1, 9, &digit));
	}
	*us = (hour * 3600 + minute * 60 + second) * US_PER_S + fraction;
	return true;
}

static bool take_offset(struct str *text, int64_t *us)
{
	*us = 0;
	if (take_char(text, 'Z'))
		return true;
	bool behind = take_char(text, '-');
	int64_t hours, minutes;
	if ((!behind && !take_char(text, '+')) || !take_number(text, 2, 23, &hours) || !take_char(text, ':') ||
	    !take_number(text, 2, 59, &minutes))
		return false;
	*us = (hours * 60 + minutes) * 60 * US_PER_S * (behind ? -1 : 1);
	return true;
}

enum db_err clock_parse_rfc3339(struct str text, int64_t *wall_us)
{
	int64_t days, time_us, offset_us;
	if (!take_date(&text, &days) || !take_char(&text, 'T') || !take_time(&text, &time_us) || !take_offset(&text, &offset_us) ||
	    text.len != 0)
		return DB_E_INVALID;
	*wall_us = days * S_PER_DAY * US_PER_S + time_us - offset_us;
	return DB_OK;
}

/* --- days --- */

int64_t clock_day(int64_t wall_us)
{
	const int64_t us_per_day = S_PER_DAY * US_PER_S;
	return wall_us / us_per_day - (wall_us % us_per_day < 0);
}

int64_t clock_week_start(int64_t day)
{
	int64_t since_monday = (day + 3) % 7; /* day 0 was a Thursday */
	return day - (since_monday < 0 ? since_monday + 7 : since_monday);
}

int64_t clock_month_start(int64_t day)
{
	int64_t year, month, day_of_month;
	date_of(day, &year, &month, &day_of_month);
	return day - (day_of_month - 1);
}
