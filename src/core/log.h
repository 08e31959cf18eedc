/* Structured logging, one line per event, to stderr: `2026-01-02T03:04:06.123Z info provider.registered id=… models=2`.
 * Never log prompt text, answers, keys, tokens or request bodies: log sizes, ids and error names. Thread: any; lines never mix.
 */
#ifndef CORE_LOG_H
#define CORE_LOG_H

#include <stdbool.h>

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR, LOG_OFF };

void log_set_level(enum log_level level); /* default LOG_INFO */
bool log_level_parse(const char *name, enum log_level *out);
bool log_enabled(enum log_level level);

/* event: dotted lower-case name; fields: "key=value" pairs made with printf. Control characters are escaped. */
void log_write(enum log_level level, const char *event, const char *fields, ...) __attribute__((format(printf, 3, 4)));

#define log_debug(...) (log_enabled(LOG_DEBUG) ? log_write(LOG_DEBUG, __VA_ARGS__) : (void)0)
#define log_info(...)  (log_enabled(LOG_INFO) ? log_write(LOG_INFO, __VA_ARGS__) : (void)0)
#define log_warn(...)  (log_enabled(LOG_WARN) ? log_write(LOG_WARN, __VA_ARGS__) : (void)0)
#define log_error(...) (log_enabled(LOG_ERROR) ? log_write(LOG_ERROR, __VA_ARGS__) : (void)0)

#endif
