/* A kept alias as the database hands it back, and what a table makes of it. */
#include <stdint.h>
#include <stdlib.h>

#include "coordinator/aliases.h"
#include "core/buf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct route_policy policy = {0};
	struct alias alias, again;
	if (aliases_read_document((struct str){(const char *)data, size}, &alias))
		return 0;
	struct route_fleet *fleet = route_fleet_new(&policy);
	struct alias_table *table = fleet ? alias_table_new(fleet) : NULL;
	if (table && alias_restore(table, &alias) == DB_OK) {
		struct buf text;
		struct json_writer w;
		buf_init(&text, 65536);
		json_writer_init(&w, &text);
		aliases_write(NULL, &w, alias_find(table, str_of(alias.id)), false);
		if (!text.failed && aliases_read_document(buf_str(&text), &again))
			abort(); /* what was written must be read back */
		buf_free(&text);
	}
	if (table)
		alias_table_free(table);
	if (fleet)
		route_fleet_free(fleet);
	return 0;
}
