/* Settings of the process itself: where it listens, where its data lies, what it logs. */
#include "coordinator/config_internal.h"

#include "core/log.h"

#include <stdlib.h>
#include <string.h>

#define AT(member) offsetof(struct coordinator_config, member)

static const char *const level_names[] = {"debug", "info", "warn", "error", "off", NULL};
_Static_assert(LOG_DEBUG == 0 && LOG_OFF == 4, "level_names follow enum log_level");

static const struct config_field fields[] = {
    {.name = "server.host",
     .env = "DARKBLOOM_HOST",
     .type = CONFIG_STRING,
     .offset = AT(host),
     .fallback = "127.0.0.1",
     .help = "Address to listen on; `::` or `0.0.0.0` for all."},
    {.name = "server.port",
     .env = "DARKBLOOM_PORT",
     .type = CONFIG_INT,
     .offset = AT(port),
     .fallback = "8080",
     .max = 65535,
     .help = "Port to listen on; 0 takes any free one."},
    {.name = "server.tls_cert",
     .env = "DARKBLOOM_TLS_CERT",
     .type = CONFIG_STRING,
     .offset = AT(tls_cert),
     .fallback = "",
     .help = "PEM file with the certificate chain; without it the server speaks clear text, for use behind a TLS proxy."},
    {.name = "server.tls_key",
     .env = "DARKBLOOM_TLS_KEY",
     .type = CONFIG_STRING,
     .offset = AT(tls_key),
     .fallback = "",
     .help = "PEM file with the certificate's private key."},
    {.name = "server.cors_origin",
     .env = "CORS_ORIGIN",
     .type = CONFIG_STRING,
     .offset = AT(cors_origin),
     .fallback = "https://console.darkbloom.dev",
     .help = "The one web origin that browsers may call the API from."},
    {.name = "server.public_url",
     .env = "DARKBLOOM_PUBLIC_URL",
     .type = CONFIG_STRING,
     .offset = AT(public_url),
     .fallback = "",
     .help =
         "The address that people and providers use, such as `https://darkbloom.example`; empty takes it from each request. "
         "With `https://` cookies are for TLS only, also behind a proxy."},
    {.name = "server.behind_proxy",
     .env = "DARKBLOOM_BEHIND_PROXY",
     .type = CONFIG_BOOL,
     .offset = AT(behind_proxy),
     .fallback = "false",
     .help = "Believe the last entry of `X-Forwarded-For`; only with a proxy in front that sets it."},
    {.name = "server.max_connections",
     .env = "DARKBLOOM_MAX_CONNECTIONS",
     .type = CONFIG_INT,
     .offset = AT(max_connections),
     .fallback = "100000",
     .min = 1,
     .max = 10000000,
     .help = "Connections at a time, providers' included."},
    {.name = "server.drain_grace_s",
     .env = "DARKBLOOM_DRAIN_GRACE",
     .type = CONFIG_INT,
     .offset = AT(drain_grace_s),
     .fallback = "600",
     .max = 86400,
     .help = "Seconds that running answers get to finish after SIGTERM."},

    {.name = "data.dir",
     .env = "DARKBLOOM_DATA_DIR",
     .type = CONFIG_STRING,
     .offset = AT(dir),
     .fallback = "",
     .help = "Folder of the database, made with mode 0700; empty is `$XDG_DATA_HOME/darkbloom/coordinator`, or "
             "`~/.local/share/darkbloom/coordinator`."},
    {.name = "data.database",
     .env = "DARKBLOOM_DATABASE",
     .type = CONFIG_STRING,
     .offset = AT(database),
     .fallback = "",
     .help = "SQLite file; empty is `coordinator.db` in the data folder."},
    {.name = "data.group_commit_us",
     .env = "DARKBLOOM_GROUP_COMMIT_US",
     .type = CONFIG_INT,
     .offset = AT(group_commit_us),
     .fallback = "2000",
     .max = 1000000,
     .help = "Microseconds that writes are gathered before one commit makes them durable together."},

    {.name = "store.url",
     .env = "DARKBLOOM_STORE_URL",
     .type = CONFIG_STRING,
     .offset = AT(store_url),
     .fallback = "",
     .secret = true,
     .help = "PostgreSQL 15 or newer instead of the SQLite file, for several coordinators on one database: "
             "`postgres://user:password@host/database?sslmode=verify-full`, with every option libpq takes. Empty is SQLite."},
    {.name = "store.connections",
     .env = "DARKBLOOM_STORE_CONNECTIONS",
     .type = CONFIG_INT,
     .offset = AT(store_connections),
     .fallback = "4",
     .min = 1,
     .max = 16,
     .help = "Connections to PostgreSQL that answer queries; one more writes."},
    {.name = "store.lost_after_s",
     .env = "DARKBLOOM_STORE_LOST_AFTER_S",
     .type = CONFIG_INT,
     .offset = AT(store_lost_after_s),
     .fallback = "30",
     .min = 5,
     .max = 3600,
     .help = "A coordinator that PostgreSQL has not heard of for so many seconds has ended: others release what it held."},
    {.name = "store.migrate",
     .env = "DARKBLOOM_STORE_MIGRATE",
     .type = CONFIG_BOOL,
     .offset = AT(store_migrate),
     .fallback = "false",
     .help = "Bring an older database forward at start. Otherwise `darkbloom-coordinator migrate` does, and the coordinator "
             "refuses to start before."},

    {.name = "log.level",
     .env = "DARKBLOOM_LOG",
     .type = CONFIG_ENUM,
     .offset = AT(level),
     .fallback = "info",
     .choices = level_names,
     .help = "Least important lines that are written to standard error."},
};

static enum db_err check_public_url(const char *url, struct error *error)
{
	struct str text = str_of(url);
	bool has_scheme = str_starts(text, STR("https://")) || str_starts(text, STR("http://"));
	if (!text.len ||
	    (has_scheme && !str_ends(text, STR("/")) && !memchr(text.at, '?', text.len) && !memchr(text.at, '#', text.len)))
		return DB_OK;
	return error_set(error, DB_E_INVALID,
	                 "server.public_url must begin with https:// or http:// and must not end with a slash.");
}

static enum db_err no_memory(struct error *error)
{
	return error_set(error, DB_E_NOMEM, "There is not enough memory for the configuration.");
}

static enum db_err default_dir(struct coordinator_config *config, struct arena *arena, struct error *error)
{
	const char *data = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
	if (data && data[0] == '/')
		config->dir = arena_printf(arena, "%s/darkbloom/coordinator", data);
	else if (home && home[0] == '/')
		config->dir = arena_printf(arena, "%s/.local/share/darkbloom/coordinator", home);
	else
		return error_set(error, DB_E_NOT_FOUND,
		                 "There is no home folder to keep the database in: set data.dir or DARKBLOOM_DATA_DIR.");
	return config->dir ? DB_OK : no_memory(error);
}

static enum db_err check(struct coordinator_config *config, struct arena *arena, struct error *error)
{
	if ((config->tls_cert[0] == '\0') != (config->tls_key[0] == '\0'))
		return error_set(error, DB_E_INVALID, "server.tls_cert and server.tls_key must be given together.");
	enum db_err err = check_public_url(config->public_url, error);
	if (!err && config->dir[0] == '\0')
		err = default_dir(config, arena, error);
	if (!err && config->database[0] == '\0')
		config->database = arena_printf(arena, "%s/coordinator.db", config->dir);
	if (!err && !config->database)
		err = no_memory(error);
	return err;
}

const struct config_part coordinator_server_settings = {fields, sizeof fields / sizeof *fields, check};
