/*
 * Certificates by service. One that is loaded lives as long as a connection uses it,
 * also when a newer one has taken its place.
 */
#include "host/certs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include <gnutls/gnutls.h>

#include "core/dns.h"
#include "host/certs_command.h"
#include "host/host.h"
#include "io/lack.h"
#include "io/log.h"
#include "io/loop.h"
#include "io/sock.h"
#include "io/tlspipe.h"

enum {
    LOOK_MS = 60000,
    TICK_MS = 3600000,
    DAY_MS = 24 * 3600000,
    CERT_FILE_MAX = 1 << 20
};

/* Loaded; shared by the connections that use it. */
struct cert {
    gnutls_certificate_credentials_t credentials;
    unsigned uses;
};

struct source {
    struct access_tls set; /* with the paths filled in, also for the command */
    bool by_command;
    struct cert *cert; /* NULL: none yet */
    struct timespec changed[2];
    uint64_t looked_ms, ran_ms; /* ran_ms 0: never */
    struct renewal *renewal;
};

struct certs {
    const struct host *host;
    struct source sources[CERTS_MAX];
    size_t count;
    char command[ACCESS_COMMAND_LEN];
    struct timer tick;
};

static void cert_drop(struct cert *cert)
{
    if (cert == NULL || --cert->uses > 0)
        return;
    gnutls_certificate_free_credentials(cert->credentials);
    free(cert);
}

static void on_pipe_end(void *ctx, bool broken)
{
    (void)broken;
    cert_drop(ctx);
}

static struct source *find(const struct certs *c, const char *service)
{
    for (size_t i = 0; c != NULL && i < c->count; i++)
        if (strcasecmp(c->sources[i].set.service, service) == 0)
            return (struct source *)(uintptr_t)&c->sources[i];
    return NULL;
}

/* ------------------------------------------------------------------------- loading */

/* When the files were changed; false when one is not there. */
static bool look(const struct source *src, struct timespec changed[2])
{
    struct stat cert, key;
    if (stat(src->set.certificate, &cert) != 0 || stat(src->set.key, &key) != 0)
        return false;
    changed[0] = cert.st_mtim;
    changed[1] = key.st_mtim;
    return true;
}

static bool same_time(const struct timespec *a, const struct timespec *b)
{
    return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

/* GnuTLS reads to the end of what it is given. */
static bool is_file(const char *path)
{
    struct stat st;
    return stat(path, &st) != 0 || (S_ISREG(st.st_mode) && st.st_size <= CERT_FILE_MAX);
}

static int load(struct source *src, struct fault *f)
{
    if (!is_file(src->set.certificate) || !is_file(src->set.key))
        return fault_set(f, POSTERN_ERR_INVALID,
                         "name a PEM file with the certificate and one with its key",
                         "the certificate of %s is no file of at most 1 MB",
                         src->set.service);
    struct cert *cert = calloc(1, sizeof(*cert));
    (void)look(src, src->changed);
    if (cert == NULL ||
        gnutls_certificate_allocate_credentials(&cert->credentials) != 0) {
        free(cert);
        return fault_lack(f, POSTERN_ERR_NOMEM);
    }
    cert->uses = 1;
    int rc = gnutls_certificate_set_x509_key_file(
        cert->credentials, src->set.certificate, src->set.key, GNUTLS_X509_FMT_PEM);
    if (rc < 0) {
        cert_drop(cert);
        return fault_set(f, POSTERN_ERR_INVALID,
                         "name a PEM file with the certificate and one with its key",
                         "the certificate of %s cannot be used: %.80s: %s",
                         src->set.service, src->set.certificate, gnutls_strerror(rc));
    }
    cert_drop(src->cert);
    src->cert = cert;
    return 0;
}

/* New files are taken up without a word; at most one look a minute. */
static void refresh(struct certs *c, struct source *src)
{
    struct timespec changed[2];
    struct fault f = {0};
    uint64_t now = loop_now_ms(c->host->loop);
    if (now - src->looked_ms < LOOK_MS)
        return;
    src->looked_ms = now;
    if (look(src, changed) &&
        !(same_time(&changed[0], &src->changed[0]) &&
          same_time(&changed[1], &src->changed[1])) &&
        load(src, &f) != 0)
        log_fault(LOG_LEVEL_WARN, &f);
}

/* --------------------------------------------------------------------- the command */

static void on_renewed(void *ctx, struct renewal *r, bool success)
{
    struct certs *c = ctx;
    for (size_t i = 0; i < c->count; i++) {
        struct source *src = &c->sources[i];
        struct fault f = {0};
        if (src->renewal != r)
            continue;
        src->renewal = NULL;
        if (success && load(src, &f) != 0)
            log_fault(LOG_LEVEL_WARN, &f);
    }
}

static void renew(struct certs *c, struct source *src)
{
    const struct host *h = c->host;
    char service[64], host[64], name[64 + 64 + LINK_HOST_LEN + 4];
    dns_label(src->set.service, service, sizeof(service));
    dns_label(h->settings.name, host, sizeof(host));
    (void)snprintf(name, sizeof(name), "%s--%s.%s", service, host, h->broker.host);
    struct renewal_config rc = {.loop = h->loop,
                                .command = c->command,
                                .service = src->set.service,
                                .name = name,
                                .certificate = src->set.certificate,
                                .key = src->set.key,
                                .on_end = on_renewed,
                                .ctx = c};
    src->ran_ms = loop_now_ms(h->loop);
    if (renewal_start(&src->renewal, &rc) != 0) {
        src->renewal = NULL;
        log_warn("the command for the certificate of %s cannot be started",
                 src->set.service);
    }
}

/* Each hour: once a day for a certificate that is there, each time for one that is not.
 */
static void on_tick(void *ctx)
{
    struct certs *c = ctx;
    for (size_t i = 0; c != NULL && i < c->count; i++) {
        struct source *src = &c->sources[i];
        uint64_t since = loop_now_ms(c->host->loop) - src->ran_ms;
        if (src->by_command && src->renewal == NULL &&
            (src->cert == NULL || since >= DAY_MS))
            renew(c, src);
    }
}

/* -------------------------------------------------------------------- the settings */

/* "tls-SERVICE.crt" in the state directory: a service's name has no slash. */
static void own_paths(const struct host *h, const char *service, struct access_tls *t)
{
    (void)snprintf(t->certificate, sizeof(t->certificate), "%.900s/tls-%.63s.crt",
                   h->state->path, service);
    (void)snprintf(t->key, sizeof(t->key), "%.900s/tls-%.63s.key", h->state->path,
                   service);
}

/* Takes over what an earlier source of the same files has. */
static void carry(struct certs *c, struct source *src)
{
    struct source *old = find(c, src->set.service);
    if (old == NULL || strcmp(old->set.certificate, src->set.certificate) != 0 ||
        strcmp(old->set.key, src->set.key) != 0)
        return;
    src->cert = old->cert;
    src->renewal = old->renewal;
    src->ran_ms = old->ran_ms;
    old->cert = NULL;
    old->renewal = NULL;
}

static void drop_sources(struct certs *c)
{
    for (size_t i = 0; i < c->count; i++) {
        cert_drop(c->sources[i].cert);
        renewal_cancel(c->sources[i].renewal);
    }
    c->count = 0;
}

/* A file of the command's that is missing is the command's business. */
static int load_source(struct source *src, struct fault *f)
{
    struct timespec changed[2];
    if (src->by_command && !look(src, changed))
        return 0;
    return load(src, f);
}

int certs_reload(struct certs *c, struct fault *f)
{
    struct access_tls *set = calloc(CERTS_MAX, sizeof(*set));
    struct certs *fresh = calloc(1, sizeof(*fresh));
    struct access *a = c->host->access;
    int n = set == NULL || fresh == NULL ? POSTERN_ERR_NOMEM
                                         : access_tls(a, set, CERTS_MAX);
    int err = n < 0 ? n : access_tls_command(a, c->command);
    if (err != 0) {
        err = access_fault(a, err, f);
    } else {
        for (int i = 0; i < n && i < CERTS_MAX; i++) {
            struct source *src = &fresh->sources[fresh->count++];
            src->set = set[i];
            src->by_command = set[i].certificate[0] == '\0';
            if (src->by_command)
                own_paths(c->host, set[i].service, &src->set);
            carry(c, src);
            int rc = load_source(src, f);
            err = err != 0 ? err : rc;
        }
        drop_sources(c);
        c->count = fresh->count;
        memcpy(c->sources, fresh->sources, sizeof(c->sources));
        timer_every(&c->tick, 0, TICK_MS);
    }
    free(fresh);
    free(set);
    return err;
}

int certs_open(struct certs **out, const struct host *h, struct fault *f)
{
    struct certs *c = calloc(1, sizeof(*c));
    if (c == NULL)
        return fault_lack(f, POSTERN_ERR_NOMEM);
    c->host = h;
    timer_init(&c->tick, h->loop, on_tick, c);
    int err = certs_reload(c, f);
    if (err != 0) {
        certs_close(c);
        return err;
    }
    for (size_t i = 0; i < c->count; i++) /* as new as they are old: in a day */
        c->sources[i].ran_ms = loop_now_ms(h->loop);
    *out = c;
    return 0;
}

void certs_close(struct certs *c)
{
    if (c == NULL)
        return;
    drop_sources(c);
    timer_stop(&c->tick);
    free(c);
}

/* ----------------------------------------------------------------- the connections */

bool certs_has(const struct certs *c, const char *service)
{
    return find(c, service) != NULL;
}

int certs_wrap(struct certs *c, const char *service, int fd)
{
    int pair[2];
    struct source *src = find(c, service);
    if (src != NULL)
        refresh(c, src);
    if (src == NULL || src->cert == NULL || sock_pair(pair) != 0) {
        close(fd);
        return src == NULL || src->cert == NULL ? POSTERN_ERR_NOTFOUND : POSTERN_ERR_IO;
    }
    src->cert->uses++;
    struct tlspipe *pipe;
    struct tlspipe_join tj = {.config = {.loop = c->host->loop,
                                         .protocol = "http/1.1",
                                         .web = true,
                                         .credentials = src->cert->credentials},
                              .fd = pair[0],
                              .plain = fd,
                              .on_end = on_pipe_end,
                              .ctx = src->cert};
    int rc = tlspipe_join(&pipe, &tj);
    if (rc != 0) {
        on_pipe_end(src->cert, true);
        close(pair[1]);
        return rc;
    }
    return pair[1];
}

/* ---------------------------------------------------------------- the command line */

static int absolute(char out[static ACCESS_PATH_LEN], const char *path, size_t len,
                    struct fault *f)
{
    char here[ACCESS_PATH_LEN] = "";
    if (len > 0 && path[0] != '/' && getcwd(here, sizeof(here)) == NULL)
        return fault_set(f, POSTERN_ERR_IO, "give the whole path",
                         "the current directory is not known");
    int n = snprintf(out, ACCESS_PATH_LEN, "%s%s%.*s", here, here[0] ? "/" : "",
                     (int)len, path);
    if (len == 0 || n >= ACCESS_PATH_LEN)
        return fault_set(f, POSTERN_ERR_USAGE, "write --tls SERVICE=CERT.pem,KEY.pem",
                         "--tls names a file with no name, or one too long");
    return 0;
}

static int parse(struct access_tls *t, const struct service_list *published,
                 const char *text, struct fault *f)
{
    char name[SERVICE_NAME_LEN];
    size_t len = strcspn(text, "=");
    *t = (struct access_tls){0};
    (void)snprintf(name, sizeof(name), "%.*s",
                   len < sizeof(name) ? (int)len : (int)sizeof(name) - 1, text);
    const struct service *s = service_find(published, name);
    if (s == NULL || len >= sizeof(name))
        return fault_set(f, POSTERN_ERR_NOTFOUND,
                         "publish it as well, or check the name",
                         "--tls: this host publishes no service '%s'", name);
    if (s->udp)
        return fault_set(f, POSTERN_ERR_INVALID, "TLS is for TCP services",
                         "--tls: '%s' is UDP", s->name);
    (void)snprintf(t->service, sizeof(t->service), "%s", s->name);
    if (text[len] == '\0')
        return 0;
    const char *files = text + len + 1, *comma = strrchr(files, ',');
    size_t cert = comma != NULL ? (size_t)(comma - files) : strlen(files);
    const char *key = comma != NULL ? comma + 1 : files;
    int err = absolute(t->certificate, files, cert, f);
    return err != 0 ? err : absolute(t->key, key, strlen(key), f);
}

/* Can its files be used? The command's are its own business. */
static int try_files(const struct access_tls *t, struct fault *f)
{
    struct source src = {.set = *t};
    int err = t->certificate[0] != '\0' ? load(&src, f) : 0;
    cert_drop(src.cert);
    return err;
}

/* Is every service without files served by a command? */
static int check_command(struct access *a, const struct access_tls *list, size_t n,
                         const char *command, struct fault *f)
{
    char stored[ACCESS_COMMAND_LEN] = "";
    bool wanted = false;
    for (size_t i = 0; i < n; i++)
        wanted = wanted || list[i].certificate[0] == '\0';
    if (!wanted && command != NULL)
        return fault_set(f, POSTERN_ERR_USAGE, "add --tls SERVICE",
                         "--tls-command is for no service");
    if (!wanted || command != NULL)
        return 0;
    int err = a != NULL ? access_tls_command(a, stored) : 0;
    if (err == 0 && stored[0] == '\0')
        return fault_set(f, POSTERN_ERR_USAGE,
                         "write --tls SERVICE=CERT.pem,KEY.pem, or add --tls-command",
                         "nothing says where the certificate comes from");
    return err;
}

/* What the texts say, or what is stored where there are none: how many, or an error. */
static int read_texts(struct access *a, struct access_tls list[static CERTS_MAX],
                      const struct service_list *published, const char *const *texts,
                      size_t n, const char *command, struct fault *f)
{
    int err = n > CERTS_MAX ? POSTERN_ERR_NOMEM : 0, count = 0;
    if (err == 0 && n == 0)
        count = a != NULL ? access_tls(a, list, CERTS_MAX) : 0;
    else if (err == 0 && !(n == 1 && strcmp(texts[0], "none") == 0))
        for (; (size_t)count < n && err == 0; count++) {
            err = parse(&list[count], published, texts[count], f);
            if (err == 0)
                err = try_files(&list[count], f);
        }
    if (count < 0)
        err = count;
    if (err == 0)
        err = check_command(a, list, (size_t)count, command, f);
    if (err == 0 && command != NULL && strlen(command) >= ACCESS_COMMAND_LEN)
        err = fault_set(f, POSTERN_ERR_USAGE, "put it into a script",
                        "the command of --tls-command is too long");
    return err != 0 ? err : count;
}

int certs_check(struct access *a, const struct service_list *published,
                const char *const *texts, size_t n, const char *command,
                struct fault *f)
{
    if (n == 0 && command == NULL)
        return 0;
    struct access_tls *list = calloc(CERTS_MAX, sizeof(*list));
    int count = list == NULL ? fault_lack(f, POSTERN_ERR_NOMEM)
                             : read_texts(a, list, published, texts, n, command, f);
    free(list);
    return count < 0 ? count : 0;
}

int certs_settle(struct access *a, const struct service_list *published,
                 const char *const *texts, size_t n, const char *command,
                 struct fault *f)
{
    if (n == 0 && command == NULL)
        return 0;
    struct access_tls *list = calloc(CERTS_MAX, sizeof(*list));
    int count = list == NULL ? POSTERN_ERR_NOMEM
                             : read_texts(a, list, published, texts, n, command, f);
    int err = count < 0 ? count : 0;
    if (err == 0 && n > 0)
        err = access_set_tls(a, list, (size_t)count, f);
    if (err == 0 && command != NULL)
        err = access_set_tls_command(a, command, f);
    free(list);
    return err;
}
