#include "swarm/reply.h"

#define HEAD_MAX (64u << 10)

void reply_init(struct reply *reply, void (*on_body)(struct str bytes, void *user), void *user)
{
	*reply = (struct reply){.on_body = on_body, .user = user};
	buf_init(&reply->head, HEAD_MAX);
}

void reply_reset(struct reply *reply)
{
	reply->state = REPLY_HEAD;
	reply->status = 0;
	reply->left = 0;
	reply->head.len = 0;
}

void reply_free(struct reply *reply)
{
	buf_free(&reply->head);
}

static void read_head(struct reply *reply, struct str head)
{
	struct str line;
	uint64_t status = 0;
	head = str_cut(head, '\n', &line);
	str_to_u64(str_sub(line, 9, 3), &status);
	reply->status = (int)status;
	reply->state = REPLY_DONE; /* no body unless a header says so */
	while (head.len) {
		struct str name;
		head = str_cut(head, '\n', &line);
		struct str value = str_trim(str_cut(line, ':', &name));
		if (str_eq_nocase(name, STR("content-length")) && str_to_u64(value, &reply->left) && reply->left)
			reply->state = REPLY_BODY;
		if (str_eq_nocase(name, STR("transfer-encoding")) && str_eq_nocase(value, STR("chunked")))
			reply->state = REPLY_CHUNK_SIZE;
	}
	if (!status)
		reply->state = REPLY_BAD;
}

static bool hex_size(struct str text, uint64_t *out)
{
	*out = 0;
	if (!text.len || text.len > 15)
		return false;
	for (size_t i = 0; i < text.len; i++) {
		char c = text.at[i];
		int digit = c >= '0' && c <= '9'   ? c - '0'
		            : c >= 'a' && c <= 'f' ? c - 'a' + 10
		            : c >= 'A' && c <= 'F' ? c - 'A' + 10
		                                   : -1;
		if (digit < 0)
			return false;
		*out = *out * 16 + (uint64_t)digit;
	}
	return true;
}

/* One line into reply->head; true when it is complete (without its line end). */
static bool take_line(struct reply *reply, struct str *bytes)
{
	const char *end = memchr(bytes->at, '\n', bytes->len);
	size_t n = end ? (size_t)(end - bytes->at) + 1 : bytes->len;
	buf_append(&reply->head, bytes->at, n);
	*bytes = str_sub(*bytes, n, bytes->len - n);
	if (reply->head.failed)
		reply->state = REPLY_BAD;
	return end != NULL;
}

static void take_head(struct reply *reply, struct str *bytes)
{
	if (!take_line(reply, bytes) || reply->state == REPLY_BAD)
		return;
	struct str head = buf_str(&reply->head);
	if (!str_ends(head, STR("\r\n\r\n")))
		return;
	read_head(reply, head);
	reply->head.len = 0;
}

static void take_chunk_size(struct reply *reply, struct str *bytes)
{
	if (!take_line(reply, bytes))
		return;
	bool good = hex_size(str_trim(buf_str(&reply->head)), &reply->left);
	reply->head.len = 0;
	reply->state = !good ? REPLY_BAD : reply->left ? REPLY_CHUNK_DATA : REPLY_TRAILER;
}

static void take_body(struct reply *reply, struct str *bytes)
{
	size_t n = bytes->len < reply->left ? bytes->len : (size_t)reply->left;
	reply->on_body(str_sub(*bytes, 0, n), reply->user);
	reply->left -= n;
	*bytes = str_sub(*bytes, n, bytes->len - n);
	if (!reply->left)
		reply->state = reply->state == REPLY_BODY ? REPLY_DONE : REPLY_CHUNK_END;
}

size_t reply_feed(struct reply *reply, struct str bytes)
{
	size_t before = bytes.len;
	while (bytes.len && reply->state < REPLY_DONE) {
		switch (reply->state) {
		case REPLY_HEAD:
			take_head(reply, &bytes);
			break;
		case REPLY_BODY:
		case REPLY_CHUNK_DATA:
			take_body(reply, &bytes);
			break;
		case REPLY_CHUNK_SIZE:
			take_chunk_size(reply, &bytes);
			break;
		default: /* the empty line behind a chunk or behind the last one */
			if (take_line(reply, &bytes)) {
				reply->state = reply->state == REPLY_CHUNK_END ? REPLY_CHUNK_SIZE : REPLY_DONE;
				reply->head.len = 0;
			}
		}
	}
	return before - bytes.len;
}
