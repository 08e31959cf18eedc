/* Handlers about people and their programs: sessions, device login, pages, account views. Thread: the loop's. */
#ifndef COORDINATOR_PORTAL_ROUTES_H
#define COORDINATOR_PORTAL_ROUTES_H

struct server;
struct exchange;

/* session_routes.c */
void handle_auth_config(struct server *server, struct exchange *exchange);
void handle_session_register(struct server *server, struct exchange *exchange);
void handle_session_login(struct server *server, struct exchange *exchange);
void handle_session_logout(struct server *server, struct exchange *exchange);
void handle_session_get(struct server *server, struct exchange *exchange);
void handle_sessions_list(struct server *server, struct exchange *exchange);
void handle_session_revoke(struct server *server, struct exchange *exchange);
void handle_session_reauth(struct server *server, struct exchange *exchange);
void handle_password_change(struct server *server, struct exchange *exchange);
void handle_invitation_create(struct server *server, struct exchange *exchange);

/* device_routes.c */
void handle_device_code(struct server *server, struct exchange *exchange);
void handle_device_token(struct server *server, struct exchange *exchange);
void handle_device_approve(struct server *server, struct exchange *exchange);
void handle_device_revoke(struct server *server, struct exchange *exchange);

/* login_pages.c, link_page.c */
void handle_login_page(struct server *server, struct exchange *exchange);
void handle_login_form(struct server *server, struct exchange *exchange);
void handle_signup_page(struct server *server, struct exchange *exchange);
void handle_signup_form(struct server *server, struct exchange *exchange);
void handle_logout_form(struct server *server, struct exchange *exchange);
void handle_link_page(struct server *server, struct exchange *exchange);
void handle_link_form(struct server *server, struct exchange *exchange);

/* oidc_routes.c */
void handle_oidc_start(struct server *server, struct exchange *exchange);
void handle_oidc_callback(struct server *server, struct exchange *exchange);

/* me.c */
void handle_me(struct server *server, struct exchange *exchange);
void handle_me_summary(struct server *server, struct exchange *exchange);
void handle_me_providers(struct server *server, struct exchange *exchange);
void handle_me_provider_delete(struct server *server, struct exchange *exchange);

#endif
