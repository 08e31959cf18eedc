/* Time. Monotonic time orders events and measures; wall time is for people, signatures and rows. Thread: any. */
#ifndef CORE_CLOCK_H
#define CORE_CLOCK_H

#include "core/error.h"
#include "core/str.h"

uint64_t clock_mono_us(void);       /* microseconds since an arbitrary start, never goes back */
uint64_t clock_thread_cpu_us(void); /* microseconds that the calling thread has run */
int64_t clock_wall_us(void);        /* microseconds since 1970-01-01T00:00:00Z */

#define CLOCK_RFC3339_SIZE 21
/* "2026-01-02T03:04:06Z", whole seconds, truncated. */
void clock_format_rfc3339(int64_t wall_us, char out[CLOCK_RFC3339_SIZE]);
/* Accepts an optional fraction and a Z or ±hh:mm offset. DB_E_INVALID for anything else. */
enum db_err clock_parse_rfc3339(struct str text, int64_t *wall_us);

/* The UTC calendar in days since 1970-01-01. */
int64_t clock_day(int64_t wall_us);
int64_t clock_week_start(int64_t day);  /* the Monday on or before */
int64_t clock_month_start(int64_t day); /* the first of its month */

#endif
