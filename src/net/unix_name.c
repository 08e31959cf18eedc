#include "net/unix_name.h"

#include "core/str.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

/* Linux names an open folder by a short path. */
static bool shorten(struct net_unix_name *name, const char *path)
{
#ifdef __linux__
	char folder[4096];
	const char *slash = strrchr(path, '/');
	size_t len = slash ? (size_t)(slash - path) : 0;
	if (len == 0 || len >= sizeof folder)
		return false;
	memcpy(folder, path, len);
	folder[len] = '\0';
	name->folder_fd = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (name->folder_fd < 0)
		return false;
	int written =
	    snprintf(name->address.sun_path, sizeof name->address.sun_path, "/proc/self/fd/%d/%s", name->folder_fd, slash + 1);
	return written > 0 && (size_t)written < sizeof name->address.sun_path;
#else
	(void)name, (void)path;
	return false;
#endif
}

enum db_err net_unix_name(struct net_unix_name *name, const char *path, struct error *error)
{
	*name = (struct net_unix_name){.address.sun_family = AF_UNIX, .folder_fd = -1};
	if (str_copy(str_of(path), name->address.sun_path, sizeof name->address.sun_path) || shorten(name, path))
		return DB_OK;
	net_unix_name_done(name);
	return error_set(error, DB_E_LIMIT, "The path of the socket %s is too long for this system, or its folder is missing.",
	                 path);
}

void net_unix_name_done(struct net_unix_name *name)
{
	if (name->folder_fd >= 0)
		close(name->folder_fd);
	name->folder_fd = -1;
}
