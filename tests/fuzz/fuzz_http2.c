/* The HTTP/2 server behind a correct preface. The first byte says whether the rest is sent as it is, or read as records
 * (type, flags, stream, length, payload) that are put into well-formed frames, which gets past the framing more often. */
#include "http_peer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

static void send_records(int fd, const uint8_t *data, size_t size, struct buf *answer)
{
	while (size >= 4) {
		size_t len = data[3] < size - 4 ? data[3] : size - 4;
		uint8_t frame[9 + 255] = {0, 0, (uint8_t)len, data[0] & 0x0f, data[1], 0, 0, 0, data[2]};
		memcpy(frame + 9, data + 4, len);
		peer_say(fd, frame, 9 + len);
		if (data[0] & 0x10)
			turn(fd, answer, 1);
		if (data[0] & 0x20)
			end_one_held();
		data += 4 + len;
		size -= 4 + len;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 2 || size > 4096)
		return 0;
	start_server();
	buf_clear(&seen);
	struct buf answer;
	buf_init(&answer, 16 << 20);
	int fd = peer_open();
	peer_say(fd, preface, sizeof preface - 1);
	if (data[0] & 1)
		peer_say(fd, data + 1, size - 1);
	else
		send_records(fd, data + 1, size - 1, &answer);
	do
		turn(fd, &answer, 3);
	while (end_one_held());
	peer_close(fd);
	buf_free(&answer);
	return 0;
}
