#include "coordinator/browser.h"

#include "coordinator/server.h"
#include "net/cookie.h"

#define CONSOLE_MAX_AGE_S 7776000 /* 90 days; the session itself ends earlier when it is idle */

/* A browser keeps a __Host- cookie to this host and to TLS, and no neighbour can set it. */
static const char *cookie_name(const struct server *server)
{
	return server_is_secure(server) ? "__Host-session" : "session";
}

struct str browser_session(const struct server *server, const struct http_request *http)
{
	return http_cookie(http, cookie_name(server));
}

void browser_set_session(const struct server *server, struct exchange *exchange, const char *token)
{
	struct buf cookie;
	buf_init(&cookie, 512);
	struct cookie_options options = {.name = cookie_name(server),
	                                 .path = "/",
	                                 .value = str_of(token ? token : ""),
	                                 .max_age_s = token ? CONSOLE_MAX_AGE_S : 0,
	                                 .secure = server_is_secure(server)};
	cookie_write(&cookie, &options);
	exchange_header(exchange, "Set-Cookie", buf_str(&cookie));
	buf_free(&cookie);
}

/* --- which site --- */

static struct str without_scheme(struct str url)
{
	const char *at = url.len ? memmem(url.at, url.len, "://", 3) : NULL;
	return at ? str_sub(url, (size_t)(at - url.at) + 3, url.len) : url;
}

bool browser_is_cross_site(const struct server *server, const struct http_request *http)
{
	struct str site = http_header_get(http, "sec-fetch-site"), origin = http_header_get(http, "origin");
	struct str public_url = str_of(server_rooms(server)->config->public_url);
	if (site.at && !str_is(site, "same-origin") && !str_is(site, "none"))
		return true;
	if (!origin.at || str_eq_nocase(origin, public_url))
		return false;
	return !str_eq_nocase(without_scheme(origin), http_header_get(http, "host"));
}

/* --- addresses --- */

struct str browser_address(const struct server *server, const struct http_request *http)
{
	struct str forwarded = http_header_get(http, "x-forwarded-for"), first, last = forwarded;
	if (!server_rooms(server)->config->behind_proxy || !forwarded.len)
		return http_peer(http);
	while (memchr(last.at, ',', last.len))
		last = str_cut(last, ',', &first); /* the proxy adds at the end; what stands before comes from the client */
	return str_trim(last);
}

static bool is_host(struct str host)
{
	for (size_t i = 0; i < host.len; i++) {
		unsigned char c = (unsigned char)host.at[i];
		bool is_name = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
		if (!is_name && !strchr(".-:[]", c))
			return false;
	}
	return host.len > 0 && host.len < 256;
}

bool browser_base_url(const struct server *server, const struct http_request *http, struct buf *out)
{
	struct str url = str_of(server_rooms(server)->config->public_url), host = http_header_get(http, "host");
	if (url.len)
		return buf_append_str(out, url) == DB_OK;
	return is_host(host) && buf_printf(out, "%s://%.*s", server_is_secure(server) ? "https" : "http", STR_ARG(host)) == DB_OK;
}

struct str browser_next(struct str next)
{
	bool is_path =
	    next.len > 0 && next.len < 512 && next.at[0] == '/' && (next.len == 1 || (next.at[1] != '/' && next.at[1] != '\\'));
	for (size_t i = 0; i < next.len && is_path; i++)
		is_path = next.at[i] > 0x20 && next.at[i] < 0x7f;
	return is_path ? next : STR("/login");
}
