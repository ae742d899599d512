/* One request of a browser, between web.c (HTTP) and the handlers (what it means). */
#ifndef POSTERN_PORTAL_WEB_H
#define POSTERN_PORTAL_WEB_H

#include <gnutls/gnutls.h>

#include "core/form.h"
#include "portal/internal.h"
#include "portal/pages.h"

struct MHD_Connection;

/* The fields of all forms; "" when one was not sent. */
struct fields {
    char csrf[64], name[136], password[256], code[16], step[LOGIN_TOKEN_TEXT_LEN];
    char next[256], host[KEY_TEXT_LEN], service[ROUTES_SERVICE_LEN];
    char device[64], services[200], expires[16];
};

struct request {
    struct request *next, **at;
    struct portal *portal;
    struct MHD_Connection *http;
    bool post, head;
    struct form_path path;
    struct addr client;
    uint64_t login; /* 0: nobody is logged in */
    struct fields fields;
    char *body; /* owned */
    size_t body_len;
    unsigned problem; /* a status, when the request itself cannot be right */
    bool parked;      /* the answer comes later */
    bool answered;
    unsigned status;
    struct html html; /* the answer's body */
    const char *type;
    const struct page_file *file; /* instead of `html` */
    char location[256];           /* of a redirect */
    char cookie[192];             /* to set */
    char device_cookie[448];      /* likewise */
    unsigned retry_s;             /* Retry-After */
    unsigned pending;             /* questions to hosts that it waits for */
    const char *notice;           /* for the page's state; constant text */
    char said[200];               /* a problem, for the page's state */
    void *work;                   /* of the handler while parked; it frees it */
};

/* Each answers, now or when it was parked; `html` is filled by the caller before. */
void request_answer(struct request *r, unsigned status);
void request_redirect(struct request *r, const char *path);
void request_message(struct request *r, unsigned status, const char *title,
                     const char *text);
/* The answer will come from the loop. */
void request_park(struct request *r);
/* For every page. The texts live as long as the request. */
void request_state(struct request *r, struct page_login_state *s);
struct login *request_login(struct request *r);
/* Where a try to log in comes from; borrowed of the request. */
struct login_from request_from(struct request *r);

/* handlers.c: runs once the request is whole. */
void handle_request(struct request *r);
/* handlers_owner.c: /host/KEY... */
void handle_owner(struct request *r);
/* The host that the path names and this login owns; else it has answered. */
struct portal_host *request_owned_host(struct request *r);

/* The token of a form that nobody logged in sends. */
void web_csrf(struct portal *p, const struct addr *client, unsigned hours_ago,
              char text[static PAGE_CSRF_LEN]);

/* web_tls.c: certificate and key as they are now, if they belong together; owned. */
MUST_CHECK int web_credentials(struct portal *p, gnutls_certificate_credentials_t *out,
                               struct fault *f);
/* Changes when the files do. */
uint64_t web_certificate_version(struct portal *p);

#endif
