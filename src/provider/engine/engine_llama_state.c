#include "provider/engine/engine_llama_state.h"

#include <stdlib.h>

#define MAX_CELLS    (1u << 22)
#define MAX_STREAMS  1024
#define MAX_LAYERS   4096
#define MAX_ROW      (1u << 24)
#define HEAD_BYTES   12 /* magic, sequence, number of streams */
#define CELL_BYTES   12 /* position, number of sequences (1), sequence */
#define MAX_SECTIONS (1u << 20)

/* A run of bytes with the same number for each cell. */
struct section {
	size_t at;    /* offset of the first cell's bytes */
	size_t bytes; /* of one cell */
};

/* What stands where in a state. */
struct layout {
	size_t streams_before, streams_after; /* empty streams around the one with cells */
	size_t cells_at;                      /* of the first cell's description */
	uint32_t count;                       /* cells */
	int32_t first;                        /* position of the earliest token */
	uint32_t *order;                      /* order[i]: the cell of position first + i */
	struct section *sections;
	size_t section_count, section_cap;
};

struct cursor {
	const struct kv_blob *state;
	size_t at;
	bool bad;
};

static void take(struct cursor *c, void *out, size_t len)
{
	if (c->bad || len > c->state->len - c->at) {
		c->bad = true;
		memset(out, 0, len);
		return;
	}
	memcpy(out, c->state->bytes + c->at, len);
	c->at += len;
}

static uint32_t take_u32(struct cursor *c)
{
	uint32_t value;
	take(c, &value, sizeof value);
	return value;
}

static void layout_free(struct layout *layout)
{
	free(layout->order);
	free(layout->sections);
}

static bool add_section(struct layout *layout, struct cursor *c, uint64_t bytes)
{
	if (c->bad || bytes == 0 || bytes > MAX_ROW || layout->section_count >= MAX_SECTIONS ||
	    bytes * layout->count > c->state->len - c->at)
		return false;
	if (layout->section_count == layout->section_cap) {
		size_t cap = layout->section_cap ? 2 * layout->section_cap : 128;
		struct section *more = realloc(layout->sections, cap * sizeof *more);
		if (!more)
			return false;
		layout->sections = more;
		layout->section_cap = cap;
	}
	layout->sections[layout->section_count++] = (struct section){c->at, bytes};
	c->at += bytes * layout->count;
	return true;
}

/* One stream has cells, the others have none. */
static bool read_streams(struct layout *layout, struct cursor *c)
{
	c->at = 8;
	uint32_t streams = take_u32(c);
	if (streams == 0 || streams > MAX_STREAMS)
		return false;
	for (uint32_t i = 0; i < streams && !c->bad; i++) {
		uint32_t count = take_u32(c);
		if (!count)
			continue;
		layout->streams_before = i;
		layout->streams_after = streams - 1 - i;
		layout->count = count;
		layout->cells_at = c->at;
		return count <= MAX_CELLS && layout->streams_after * 4 <= c->state->len;
	}
	return false;
}

/* Positions form one range without a gap. */
static bool read_cells(struct layout *layout, struct cursor *c)
{
	size_t start = c->at;
	if ((uint64_t)layout->count * CELL_BYTES > c->state->len - c->at)
		return false;
	for (int pass = 0; pass < 2; pass++) {
		c->at = start;
		for (uint32_t i = 0; i < layout->count; i++) {
			int32_t position = (int32_t)take_u32(c);
			uint32_t sequences = take_u32(c);
			take_u32(c);
			if (sequences != 1 || position < 0)
				return false;
			if (pass == 0) {
				layout->first = i == 0 || position < layout->first ? position : layout->first;
				continue;
			}
			uint32_t index = (uint32_t)(position - layout->first);
			if (index >= layout->count || layout->order[index] != UINT32_MAX)
				return false;
			layout->order[index] = i;
		}
		if (pass == 0) {
			layout->order = malloc(layout->count * sizeof *layout->order);
			if (!layout->order)
				return false;
			memset(layout->order, 0xff, layout->count * sizeof *layout->order);
		}
	}
	return !c->bad;
}

static bool read_keys(struct layout *layout, struct cursor *c, uint32_t layers)
{
	for (uint32_t i = 0; i < layers; i++) {
		uint64_t row;
		take_u32(c);
		take(c, &row, sizeof row);
		if (!add_section(layout, c, row))
			return false;
	}
	return true;
}

/* Every layer has its values, by token or, transposed, by element; or none has (then they are made of the keys). */
static bool read_values(struct layout *layout, struct cursor *c, bool transposed, uint32_t layers, size_t end)
{
	for (uint32_t i = 0; i < layers && (i > 0 || c->at < end); i++) {
		take_u32(c);
		if (!transposed) {
			uint64_t row;
			take(c, &row, sizeof row);
			if (!add_section(layout, c, row))
				return false;
			continue;
		}
		uint32_t bytes = take_u32(c), rows = take_u32(c);
		for (uint32_t j = 0; j < rows; j++)
			if (!add_section(layout, c, bytes))
				return false;
	}
	return c->at == end;
}

static bool layout_read(struct layout *layout, const struct kv_blob *state)
{
	struct cursor c = {.state = state};
	*layout = (struct layout){0};
	if (state->len < HEAD_BYTES || !read_streams(layout, &c) || !read_cells(layout, &c))
		goto bad;
	uint32_t transposed = take_u32(&c), layers = take_u32(&c);
	if (c.bad || transposed > 1 || layers == 0 || layers > MAX_LAYERS || !read_keys(layout, &c, layers) ||
	    !read_values(layout, &c, transposed, layers, state->len - 4 * layout->streams_after))
		goto bad;
	for (size_t i = 0; i < layout->streams_after; i++)
		if (take_u32(&c) != 0)
			goto bad;
	return true;
bad:
	layout_free(layout);
	return false;
}

/* Bytes of one cell in all sections together. */
static size_t cell_bytes(const struct layout *layout)
{
	size_t bytes = CELL_BYTES;
	for (size_t i = 0; i < layout->section_count; i++)
		bytes += layout->sections[i].bytes;
	return bytes;
}

/* --- making a state of cells of one or more --- */

struct source {
	const struct kv_blob *state;
	struct layout layout;
	size_t from, count; /* tokens that are taken, counted from layout.first */
};

struct sink {
	uint8_t *at;
};

static void put(struct sink *sink, const void *bytes, size_t len)
{
	memcpy(sink->at, bytes, len);
	sink->at += len;
}

/* The wanted cells' bytes of one section, in the order of their positions. */
static void put_cells(struct sink *sink, const struct source *source, size_t at, size_t bytes)
{
	const uint32_t *order = source->layout.order + source->from;
	for (size_t i = 0; i < source->count;) {
		size_t run = 1;
		while (i + run < source->count && order[i + run] == order[i] + run)
			run++;
		put(sink, source->state->bytes + at + order[i] * bytes, run * bytes);
		i += run;
	}
}

static bool same_form(const struct layout *a, const struct layout *b)
{
	if (a->section_count != b->section_count)
		return false;
	for (size_t i = 0; i < a->section_count; i++)
		if (a->sections[i].bytes != b->sections[i].bytes)
			return false;
	return true;
}

/* All that stands between two sections is the same in every state of a model: it is copied from the first. */
static struct kv_blob *make(struct source *sources, size_t count)
{
	const struct layout *form = &sources[0].layout;
	const uint8_t *from = sources[0].state->bytes;
	size_t total = 0;
	for (size_t i = 0; i < count; i++)
		total += sources[i].count;
	size_t fixed = sources[0].state->len - form->count * cell_bytes(form);
	if (total == 0 || total > MAX_CELLS)
		return NULL;
	struct kv_blob *blob = kv_blob_new(fixed + total * cell_bytes(form));
	if (!blob)
		return NULL;
	struct sink sink = {blob->bytes};
	uint32_t cells = (uint32_t)total;
	put(&sink, from, form->cells_at - 4);
	put(&sink, &cells, sizeof cells);
	for (size_t i = 0; i < count; i++)
		put_cells(&sink, &sources[i], sources[i].layout.cells_at, CELL_BYTES);
	size_t done = form->cells_at + (size_t)form->count * CELL_BYTES;
	for (size_t s = 0; s < form->section_count; s++) {
		const struct section *section = &form->sections[s];
		put(&sink, from + done, section->at - done);
		for (size_t i = 0; i < count; i++)
			put_cells(&sink, &sources[i], sources[i].layout.sections[s].at, section->bytes);
		done = section->at + section->bytes * form->count;
	}
	put(&sink, from + done, sources[0].state->len - done);
	return blob;
}

static struct kv_blob *cut(const struct kv_blob *state, size_t from, size_t to)
{
	struct source source = {.state = state};
	if (!layout_read(&source.layout, state))
		return NULL;
	size_t first = (size_t)source.layout.first;
	struct kv_blob *blob = NULL;
	if (from >= first && from < to && to <= first + source.layout.count) {
		source.from = from - first;
		source.count = to - from;
		blob = make(&source, 1);
	}
	layout_free(&source.layout);
	return blob;
}

static struct kv_blob *join(struct kv_blob *const *parts, size_t count)
{
	struct source sources[KV_CHAIN_MAX];
	struct kv_blob *blob = NULL;
	size_t read = 0, next = 0;
	bool fits = count > 0 && count <= KV_CHAIN_MAX;
	while (fits && read < count) {
		struct source *source = &sources[read];
		*source = (struct source){.state = parts[read]};
		if (!layout_read(&source->layout, parts[read]))
			break;
		read++;
		source->count = source->layout.count;
		fits = (size_t)source->layout.first == next && same_form(&sources[0].layout, &source->layout);
		next += source->count;
	}
	if (fits && read == count)
		blob = make(sources, count);
	for (size_t i = 0; i < read; i++)
		layout_free(&sources[i].layout);
	return blob;
}

const struct kv_codec llama_state_codec = {cut, join};

bool llama_state_is_whole(const struct kv_blob *state, size_t count)
{
	struct layout layout;
	if (!layout_read(&layout, state))
		return false;
	bool whole = layout.first == 0 && layout.count == count;
	for (size_t i = 0; whole && i < count; i++)
		whole = layout.order[i] == i;
	layout_free(&layout);
	return whole;
}
