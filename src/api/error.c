#include "api/error.h"

#include "core/json.h"

#include <stdarg.h>
#include <stdio.h>

bool api_fail(struct api_error *error, int status, const char *type, const char *code, const char *param, const char *format,
              ...)
{
	*error = (struct api_error){.status = status, .type = type, .code = code, .param = param};
	va_list args;
	va_start(args, format);
	(void)vsnprintf(error->message, sizeof error->message, format, args);
	va_end(args);
	return false;
}

void api_error_put(struct json_writer *w, const struct api_error *error)
{
	json_key(w, "error");
	json_begin_object(w);
	json_put_cstr(w, "type", error->type);
	json_put_cstr(w, "code", error->code ? error->code : error->type);
	json_put_cstr(w, "message", error->message);
	json_put_cstr(w, "param", error->param);
	json_end_object(w);
}

void api_error_write(const struct api_error *error, struct buf *out)
{
	struct json_writer w;
	json_writer_init(&w, out);
	json_begin_object(&w);
	api_error_put(&w, error);
	json_end_object(&w);
	buf_append_byte(out, '\n');
}
