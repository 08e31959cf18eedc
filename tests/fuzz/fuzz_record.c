/* A line of the decision records as the disk hands it back: what is read can be written, and says the same when read again. */
#include <stdint.h>
#include <stdlib.h>

#include "coordinator/gateway/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void write_whole(const struct record *record, struct buf *out)
{
	struct json_writer w;
	buf_init(out, 1u << 20);
	json_writer_init(&w, out);
	record_write_explained(record, &w);
	if (out->failed)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct record record, again;
	struct buf first, second;
	struct json_doc *doc = json_parse((struct str){(const char *)data, size}, NULL, NULL);
	enum db_err err = doc ? record_read(json_root(doc), &record) : DB_E_INVALID;
	json_free(doc);
	if (err)
		return 0;
	write_whole(&record, &first);
	doc = json_parse(buf_str(&first), NULL, NULL);
	if (!doc || record_read(json_get(json_root(doc), "route"), &again))
		abort();
	json_free(doc);
	write_whole(&again, &second);
	if (!str_eq(buf_str(&first), buf_str(&second)))
		abort();
	buf_free(&first);
	buf_free(&second);
	return 0;
}
