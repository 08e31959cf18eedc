#include "coordinator/page.h"

#include "core/encode.h"
#include "crypto/hash.h"

#define STYLE                                                                                                                  \
	"body{font:16px/1.5 system-ui,sans-serif;max-width:26rem;margin:12vh auto;padding:0 1rem;color:#1a1a1a;background:#fff}"   \
	"h1{font-size:1.4rem}label{display:block;margin:1rem 0}input{display:block;box-sizing:border-box;width:100%;"              \
	"padding:.6rem;font:inherit;border:1px solid #767676;border-radius:.4rem}button{font:inherit;padding:.6rem 1.2rem;"        \
	"border:1px solid #1a1a1a;border-radius:.4rem;background:#1a1a1a;color:#fff;margin-right:.6rem}button.quiet{background:"   \
	"none;color:inherit}.error{color:#a40000}.code{font:1.4rem monospace;letter-spacing:.1em}a{color:inherit}"                 \
	"@media(prefers-color-scheme:dark){body{color:#eee;background:#161616}input{background:#222;color:#eee}"                   \
	"button{border-color:#eee;background:#eee;color:#161616}.error{color:#ff8a8a}}"

void page_begin(struct buf *out, const char *title)
{
	buf_init(out, PAGE_MAX_BYTES);
	buf_append_c(out, "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">"
	                  "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>");
	page_text(out, str_of(title));
	buf_append_c(out, " - Darkbloom</title><style>" STYLE "</style></head><body><main><h1>");
	page_text(out, str_of(title));
	buf_append_c(out, "</h1>");
}

void page_text(struct buf *out, struct str text)
{
	for (size_t i = 0; i < text.len; i++) {
		switch (text.at[i]) {
		case '&':
			buf_append_c(out, "&amp;");
			break;
		case '<':
			buf_append_c(out, "&lt;");
			break;
		case '>':
			buf_append_c(out, "&gt;");
			break;
		case '"':
			buf_append_c(out, "&quot;");
			break;
		case '\'':
			buf_append_c(out, "&#39;");
			break;
		default:
			buf_append_byte(out, text.at[i]);
		}
	}
}

void page_paragraph(struct buf *out, const char *class_name, struct str text)
{
	buf_printf(out, "<p class=\"%s\"%s>", class_name, str_is(STR("error"), class_name) ? " role=\"alert\"" : "");
	page_text(out, text);
	buf_append_c(out, "</p>");
}

void page_input(struct buf *out, const char *label, const char *type, const char *name, struct str value, const char *more)
{
	buf_printf(out, "<label>%s <input type=\"%s\" name=\"%s\" %s value=\"", label, type, name, more);
	page_text(out, value);
	buf_append_c(out, "\"></label>");
}

void page_hidden(struct buf *out, const char *name, struct str value)
{
	buf_printf(out, "<input type=\"hidden\" name=\"%s\" value=\"", name);
	page_text(out, value);
	buf_append_c(out, "\">");
}

/* The one style is named by its hash; nothing else may run, load, frame or be sent elsewhere. */
static void add_policy(struct exchange *exchange)
{
	static const char style[] = STYLE;
	uint8_t hash[SHA256_BYTES];
	char text[BASE64_ENCODED_LEN(SHA256_BYTES) + 1];
	struct buf policy;
	sha256(style, sizeof style - 1, hash);
	text[base64_encode(hash, sizeof hash, text)] = '\0';
	buf_init(&policy, 512);
	buf_printf(&policy,
	           "default-src 'none'; style-src 'sha256-%s'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'", text);
	exchange_header(exchange, "Content-Security-Policy", buf_str(&policy));
	exchange_header(exchange, "Cross-Origin-Opener-Policy", STR("same-origin"));
	exchange_header(exchange, "Referrer-Policy", STR("same-origin"));
	exchange_header(exchange, "X-Content-Type-Options", STR("nosniff"));
	exchange_header(exchange, "X-Frame-Options", STR("DENY"));
	exchange_header(exchange, "Cache-Control", STR("no-store"));
	buf_free(&policy);
}

void page_answer(struct exchange *exchange, int status, struct buf *out)
{
	buf_append_c(out, "</main></body></html>\n");
	add_policy(exchange);
	exchange_answer(exchange, status, "text/html; charset=utf-8", buf_str(out));
	buf_free(out);
}

void page_redirect(struct exchange *exchange, struct str path)
{
	exchange_header(exchange, "Location", path);
	exchange_header(exchange, "Cache-Control", STR("no-store"));
	exchange_answer(exchange, 303, NULL, STR_NONE);
}
