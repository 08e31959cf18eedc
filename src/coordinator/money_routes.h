/* Handlers about money: receipts, prices, earnings, the books (http-api 4.6). Each ends the exchange. Thread: the loop's. */
#ifndef COORDINATOR_MONEY_ROUTES_H
#define COORDINATOR_MONEY_ROUTES_H

struct server;
struct exchange;

/* receipt_routes.c */
void handle_receipt(struct server *server, struct exchange *exchange);
void handle_receipt_key(struct server *server, struct exchange *exchange);

/* views_routes.c */
void handle_usage(struct server *server, struct exchange *exchange);
void handle_usage_export(struct server *server, struct exchange *exchange);
void handle_account_earnings(struct server *server, struct exchange *exchange);
void handle_statement(struct server *server, struct exchange *exchange);
void handle_leaderboard(struct server *server, struct exchange *exchange);
void handle_network_totals(struct server *server, struct exchange *exchange);

/* pricing_routes.c */
void handle_pricing(struct server *server, struct exchange *exchange);
void handle_price_set(struct server *server, struct exchange *exchange);
void handle_price_delete(struct server *server, struct exchange *exchange);
void handle_platform_price_set(struct server *server, struct exchange *exchange);

/* billing_routes.c */
void handle_checkout_create(struct server *server, struct exchange *exchange);
void handle_checkout_get(struct server *server, struct exchange *exchange);
void handle_stripe_webhook(struct server *server, struct exchange *exchange);
void handle_billing_methods(struct server *server, struct exchange *exchange);
void handle_wallet_balance(struct server *server, struct exchange *exchange);

/* payout_routes.c */
void handle_payout_onboard(struct server *server, struct exchange *exchange);
void handle_payout_status(struct server *server, struct exchange *exchange);
void handle_withdraw(struct server *server, struct exchange *exchange);
void handle_withdrawals(struct server *server, struct exchange *exchange);
void handle_connect_webhook(struct server *server, struct exchange *exchange);

/* reconcile_routes.c */
void handle_reconcile(struct server *server, struct exchange *exchange);

/* invite_routes.c */
void handle_invite_create(struct server *server, struct exchange *exchange);
void handle_invites(struct server *server, struct exchange *exchange);
void handle_invite_delete(struct server *server, struct exchange *exchange);
void handle_invite_redeem(struct server *server, struct exchange *exchange);

/* referral_routes.c */
void handle_referral_register(struct server *server, struct exchange *exchange);
void handle_referral_apply(struct server *server, struct exchange *exchange);
void handle_referral_stats(struct server *server, struct exchange *exchange);
void handle_referral_info(struct server *server, struct exchange *exchange);

/* reward_routes.c */
void handle_base_rewards(struct server *server, struct exchange *exchange);

/* books_routes.c */
void handle_ledger_close(struct server *server, struct exchange *exchange);
void handle_ledger_export(struct server *server, struct exchange *exchange);
void handle_state_export(struct server *server, struct exchange *exchange);
void handle_state_exported(struct server *server, struct exchange *exchange);

#endif
