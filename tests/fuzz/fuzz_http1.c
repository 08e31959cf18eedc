/* The HTTP/1.1 server on any bytes. Besides what http_peer.h checks: how the bytes are cut into reads changes neither what the
 * handler sees nor what the client gets. The first byte seeds the cuts. */
#include "http_peer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint32_t cut_state;
static size_t next_cut(size_t bound)
{
	cut_state = cut_state * 1664525u + 1013904223u;
	return 1 + (cut_state >> 16) % bound;
}

static void talk(const uint8_t *data, size_t size, size_t largest_cut, struct buf *answer)
{
	buf_clear(&seen);
	int fd = peer_open();
	for (size_t from = 0; from < size;) {
		size_t cut = next_cut(largest_cut), len = cut < size - from ? cut : size - from;
		peer_say(fd, data + from, len);
		from += len;
		turn(fd, answer, 1);
	}
	do
		turn(fd, answer, 3);
	while (end_one_held());
	peer_close(fd);
}

static bool cuts_change_nothing(const uint8_t *data, size_t size)
{
	struct buf whole, cut, seen_whole;
	buf_init(&whole, 4 << 20);
	buf_init(&cut, 4 << 20);
	buf_init(&seen_whole, 1 << 20);
	talk(data, size, size + 1, &whole);
	(void)buf_append_str(&seen_whole, buf_str(&seen));
	talk(data, size, 1 + (size + 1) / 8, &cut);
	check(str_eq(buf_str(&seen), buf_str(&seen_whole)));
	bool same = str_eq(buf_str(&whole), buf_str(&cut));
	buf_free(&whole);
	buf_free(&cut);
	buf_free(&seen_whole);
	return same;
}

static int64_t date_now(void)
{
	(void)http_server_date(server);
	return server->date_second;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 2 || size > 4096)
		return 0;
	if (size > 4 && memcmp(data + 1, "PRI ", 4) == 0)
		return 0; /* HTTP/2, whose first frames leave as soon as this was seen: fuzz_http2 */
	start_server();
	for (int tries = 0;; tries++) {
		int64_t before = date_now();
		cut_state = data[0];
		if (cuts_change_nothing(data + 1, size - 1))
			break;
		check(date_now() != before && tries < 50); /* answers carry the second of their making */
	}
	return 0;
}
