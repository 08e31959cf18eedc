/* Random identifiers from the operating system's generator (buffered per thread). Thread: any. */
#ifndef CORE_ID_H
#define CORE_ID_H

#include <stddef.h>

#define ID_UUID_SIZE    37
#define ID_REQUEST_SIZE 13

void id_uuid4(char out[ID_UUID_SIZE]); /* lower-case, with dashes */
/* RFC 9562 version 7: milliseconds of wall time, then 74 random bits. For keys of databases: what is made together lies
 * together, so that an index grows at its end instead of everywhere. */
void id_uuid7(char out[ID_UUID_SIZE]);
void id_request(char out[ID_REQUEST_SIZE]);  /* 12 characters of 0-9a-v (http-api 1.2) */
void id_hex(char *out, size_t random_bytes); /* writes 2 * random_bytes characters and a NUL */
void id_random(void *out, size_t len);       /* raw random bytes, cryptographically strong */

#endif
