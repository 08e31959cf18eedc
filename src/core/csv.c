#include "core/csv.h"

static bool needs_quotes(struct str text)
{
	for (size_t i = 0; i < text.len; i++)
		if (strchr(",\"\r\n", text.at[i]))
			return true;
	return false;
}

void csv_field(struct buf *out, struct str text)
{
	bool is_formula = text.len > 0 && strchr("=+-@\t\r", text.at[0]);
	bool quoted = needs_quotes(text);
	if (quoted)
		buf_append_byte(out, '"');
	if (is_formula)
		buf_append_byte(out, '\'');
	for (size_t i = 0; i < text.len; i++) {
		if (text.at[i] == '"')
			buf_append_byte(out, '"');
		buf_append_byte(out, text.at[i]);
	}
	if (quoted)
		buf_append_byte(out, '"');
}
