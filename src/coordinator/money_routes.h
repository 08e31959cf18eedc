/* Handlers about money: receipts, prices, earnings, the books (http-api 4.6). Each ends the exchange. Thread: the loop's. */
#ifndef COORDINATOR_MONEY_ROUTES_H
#define COORDINATOR_MONEY_ROUTES_H

struct server;
struct exchange;

/* receipt_routes.c */
void handle_receipt(struct server *server, struct exchange *exchange);
void handle_receipt_key(struct server *server, struct exchange *exchange);

/* books_routes.c */
void handle_ledger_close(struct server *server, struct exchange *exchange);
void handle_ledger_export(struct server *server, struct exchange *exchange);

#endif
