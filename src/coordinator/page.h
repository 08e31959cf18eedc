/* Small pages made by the server, for people without the console: no scripts, nothing from elsewhere. Thread: the loop's. */
#ifndef COORDINATOR_PAGE_H
#define COORDINATOR_PAGE_H

#include "coordinator/gateway/exchange.h"

#define PAGE_MAX_BYTES 65536

/* Writes everything up to the content; `out` is made ready here. */
void page_begin(struct buf *out, const char *title);
/* Text with everything that HTML takes for more escaped; for content and for attributes in double quotes. */
void page_text(struct buf *out, struct str text);
void page_paragraph(struct buf *out, const char *class_name, struct str text);
/* <label>LABEL <input ...></label> */
void page_input(struct buf *out, const char *label, const char *type, const char *name, struct str value, const char *more);
void page_hidden(struct buf *out, const char *name, struct str value);
/* Ends the page and answers with it; frees `out`. */
void page_answer(struct exchange *exchange, int status, struct buf *out);
/* 303: the browser asks for this path next. */
void page_redirect(struct exchange *exchange, struct str path);

#endif
