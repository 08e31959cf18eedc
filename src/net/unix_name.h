/* Addresses of Unix sockets, also of those whose path is longer than an address can hold. Thread: any. */
#ifndef NET_UNIX_NAME_H
#define NET_UNIX_NAME_H

#include <sys/socket.h>
#include <sys/un.h>

#include "core/error.h"

struct net_unix_name {
	struct sockaddr_un address;
	int folder_fd; /* what a long path is shortened by; -1 = it was short */
};
/* Valid until net_unix_name_done. DB_E_LIMIT when this system cannot shorten the path. */
enum db_err net_unix_name(struct net_unix_name *name, const char *path, struct error *error);
void net_unix_name_done(struct net_unix_name *name);

#endif
