#include "core/log.h"

#include "core/clock.h"
#include "core/str.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#define LOG_LINE_MAX 4096 /* one write of up to PIPE_BUF bytes is never mixed with another */

static _Atomic int threshold = LOG_INFO;

static const char *const level_names[] = {"debug", "info", "warn", "error", "off"};

void log_set_level(enum log_level level)
{
	atomic_store_explicit(&threshold, (int)level, memory_order_relaxed);
}

bool log_level_parse(const char *name, enum log_level *out)
{
	for (size_t i = 0; name && i < sizeof level_names / sizeof level_names[0]; i++)
		if (strcmp(name, level_names[i]) == 0) {
			*out = (enum log_level)i;
			return true;
		}
	return false;
}

bool log_enabled(enum log_level level)
{
	return level < LOG_OFF && (int)level >= atomic_load_explicit(&threshold, memory_order_relaxed);
}

struct line {
	char text[LOG_LINE_MAX];
	size_t len;
};

static void add(struct line *line, struct str part)
{
	size_t room = sizeof line->text - 1 - line->len; /* one byte stays for the line feed */
	size_t len = part.len < room ? part.len : room;
	if (len > 0)
		memcpy(line->text + line->len, part.at, len);
	line->len += len;
}

/* Control characters could forge a second line or drive a terminal. */
static void add_escaped(struct line *line, struct str part)
{
	static const char digits[] = "0123456789abcdef";
	for (size_t i = 0; i < part.len; i++) {
		unsigned char c = (unsigned char)part.at[i];
		if (c >= 0x20 && c != 0x7f) {
			add(line, str_sub(part, i, 1));
			continue;
		}
		char escape[4] = {'\\', 'x', digits[c >> 4], digits[c & 15]};
		add(line, (struct str){escape, sizeof escape});
	}
}

static void add_stamp(struct line *line)
{
	int64_t now = clock_wall_us();
	char stamp[CLOCK_RFC3339_SIZE], milli[8];
	clock_format_rfc3339(now, stamp);
	int len = snprintf(milli, sizeof milli, ".%03uZ ", (unsigned)(now / 1000 % 1000) % 1000u);
	add(line, (struct str){stamp, CLOCK_RFC3339_SIZE - 2});
	add(line, (struct str){milli, (size_t)len});
}

void log_write(enum log_level level, const char *event, const char *fields, ...)
{
	if (!log_enabled(level))
		return;
	int saved_errno = errno;
	struct line line;
	line.len = 0;
	add_stamp(&line);
	add(&line, str_of(level_names[level]));
	add(&line, STR(" "));
	add_escaped(&line, str_of(event));
	if (fields && fields[0] != '\0') {
		char text[LOG_LINE_MAX];
		va_list args;
		va_start(args, fields);
		int len = vsnprintf(text, sizeof text, fields, args);
		va_end(args);
		add(&line, STR(" "));
		add_escaped(&line, len < 0 ? STR_NONE : str_of(text));
	}
	line.text[line.len++] = '\n';
	/* Nobody can be told that the log itself could not be written. */
	ssize_t ignored = write(STDERR_FILENO, line.text, line.len);
	(void)ignored;
	errno = saved_errno;
}
