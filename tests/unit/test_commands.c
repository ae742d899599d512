/*
 * Commands from their words to what they print, with a state directory of their own
 * and, where they need one, a daemon that answers on its local socket.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <pthread.h>
#include <sodium.h>
#include <unistd.h>

#include "cli/options.h"
#include "client/book.h"
#include "core/link.h"
#include "host/roster.h"
#include "io/local.h"
#include "io/loop.h"
#include "io/statedir.h"
#include "scratch.h"

struct fixture {
    char dir[SCRATCH_LEN];
    char *text; /* what the last command printed */
    struct fault f;
};

static int setup(void **state)
{
    struct fixture *x = calloc(1, sizeof(*x));
    *state = x;
    return x != NULL && scratch_make(x->dir) == 0 ? 0 : -1;
}

static int teardown(void **state)
{
    struct fixture *x = *state;
    free(x->text);
    scratch_remove(x->dir);
    free(x);
    return 0;
}

/* Runs `words` as the program does; the last of them is NULL. */
static int run(struct fixture *x, bool json, const char *const *words)
{
    const char *all[16] = {"--state", x->dir};
    int argc = 2;
    size_t len = 0;
    struct options o;
    struct events out = {.json = json};
    const struct command *c = command_find(words[0]);
    assert_non_null(c);
    for (int i = 1; words[i] != NULL; i++)
        all[argc++] = words[i];
    free(x->text);
    x->text = NULL;
    out.out = open_memstream(&x->text, &len);
    assert_non_null(out.out);
    x->f = (struct fault){0};
    int err = options_parse(&o, c, argc, (char **)(uintptr_t)all, &x->f);
    if (err == 0)
        err = c->run(&o, &out, &x->f);
    options_fini(&o);
    (void)fclose(out.out);
    assert_true((err == 0) == (x->f.what[0] == '\0'));
    return err;
}

#define RUN(x, json, ...) run(x, json, (const char *const[]){__VA_ARGS__, NULL})

/* Puts what `serve` remembers, and one device called anna, into the roster. */
static void publish(struct fixture *x)
{
    struct roster *r;
    struct roster_settings *s = calloc(1, sizeof(*s));
    struct roster_invite in = {.expires_s = 1000, .uses_left = 1};
    struct link broker = {.type = LINK_BROKER, .host = "192.0.2.1", .port = 443};
    uint8_t id[INVITE_ID_LEN], key[KEY_LEN] = {1};
    assert_non_null(s);
    broker.has_token = true;
    memset(broker.token, 7, sizeof(broker.token));
    link_format(&broker, s->broker);
    (void)snprintf(s->name, sizeof(s->name), "home");
    (void)snprintf(s->services, sizeof(s->services), "22\nweb=8080");
    assert_int_equal(roster_open(&r, x->dir, NULL), 0);
    assert_int_equal(roster_settings_set(r, s, NULL), 0);
    assert_int_equal(roster_invite_new(r, &in, 1, NULL), 0);
    link_invite_id(id, in.secret);
    assert_int_equal(roster_invite_consume(r, id, key, "anna", 2, NULL), 0);
    roster_close(r);
    free(s);
}

static void find_text(const struct fixture *x, const char *name, char *buf, size_t cap)
{
    struct json_value v;
    assert_int_equal(json_find(&v, x->text, name), 0);
    json_value_words(&v, buf, cap);
}

static void test_invite(void **state)
{
    struct fixture *x = *state;
    struct link l;
    struct keypair own;
    struct statedir dir;
    struct roster *r;
    struct roster_invite in;
    uint8_t id[INVITE_ID_LEN];
    char text[LINK_TEXT_LEN];
    assert_int_equal(RUN(x, true, "invite"), POSTERN_ERR_NOTFOUND);
    assert_non_null(strstr(x->f.advice, "postern serve"));
    publish(x);
    assert_int_equal(RUN(x, true, "invite", "--services", "nope"),
                     POSTERN_ERR_NOTFOUND);
    assert_int_equal(RUN(x, true, "invite", "--services", "WEB, 22", "--expires", "2m"),
                     0);
    find_text(x, "services", text, sizeof(text));
    assert_string_equal(text, "web,22");
    find_text(x, "link", text, sizeof(text));
    assert_int_equal(link_parse(&l, text, NULL), 0);
    assert_int_equal(l.type, LINK_INVITE);
    assert_string_equal(l.host, "192.0.2.1");
    assert_int_equal(statedir_open(&dir, x->dir, NULL), 0);
    assert_int_equal(statedir_key(&dir, &own, NULL), 0);
    assert_memory_equal(l.host_key, own.pub, KEY_LEN);
    link_invite_id(id, l.secret);
    assert_int_equal(roster_open(&r, x->dir, NULL), 0);
    int64_t now_s = statedir_now_s();
    assert_int_equal(roster_invite_find(r, id, now_s, &in), 0);
    assert_true(in.expires_s > now_s && in.expires_s <= now_s + 120);
    assert_memory_equal(in.secret, l.secret, sizeof(l.secret));
    roster_close(r);
    /* for a script: the link alone on one line */
    assert_int_equal(RUN(x, false, "invite"), 0);
    assert_int_equal(strcspn(x->text, "\n") + 1, strlen(x->text));
    assert_int_equal(strncmp(x->text, "postern://", 10), 0);
}

static void test_ls(void **state)
{
    struct fixture *x = *state;
    struct book *b;
    struct statedir dir;
    struct book_host h = {.name = "Home", .joined_s = 5};
    struct book_service services[2] = {{.name = "ssh", .port = 22},
                                       {.name = "dns", .port = 53, .udp = true}};
    assert_int_equal(RUN(x, true, "ls"), 0);
    assert_string_equal(x->text, "");
    assert_int_equal(RUN(x, false, "ls"), 0);
    assert_non_null(strstr(x->text, "postern join"));
    assert_int_equal(statedir_open(&dir, x->dir, NULL), 0);
    assert_int_equal(book_open(&b, &dir, NULL), 0);
    assert_int_equal(book_add(b, &h, NULL), 0);
    assert_int_equal(book_services_set(b, h.key, services, 2), 0);
    book_close(b);
    assert_int_equal(RUN(x, true, "ls"), 0);
    assert_non_null(strstr(x->text, "{\"event\":\"host\",\"name\":\"home\""));
    assert_non_null(strstr(x->text, "\"services\":[\"ssh\",\"dns\"]"));
    assert_int_equal(RUN(x, false, "ls"), 0);
    assert_non_null(strstr(x->text, "services: ssh, dns"));
    publish(x);
    assert_int_equal(RUN(x, true, "ls", "--devices"), 0);
    assert_non_null(strstr(x->text, "{\"event\":\"client\",\"name\":\"anna\""));
    assert_non_null(strstr(x->text, "\"services\":null"));
}

static void test_keys(void **state)
{
    struct fixture *x = *state;
    char before[64], after[64], old[64];
    assert_int_equal(RUN(x, true, "keys"), 0);
    find_text(x, "key", before, sizeof(before));
    assert_int_equal(strlen(before), KEY_TEXT_LEN - 1);
    assert_int_equal(RUN(x, true, "keys", "rotate"), 0);
    find_text(x, "key", after, sizeof(after));
    find_text(x, "old", old, sizeof(old));
    assert_string_equal(old, before);
    assert_string_not_equal(after, before);
    assert_int_equal(RUN(x, true, "keys", "show"), 0);
    find_text(x, "key", old, sizeof(old));
    assert_string_equal(old, after);
    assert_int_equal(RUN(x, true, "keys", "melt"), POSTERN_ERR_USAGE);
}

/* A daemon that answers one kind of request; it runs until `stop`. */
struct daemon {
    pthread_t thread;
    struct loop *loop;
    struct wake stop;
    struct local_server *server;
    char expect[KEY_TEXT_LEN];
    bool refuse;
};

static void on_request(void *ctx, struct local_conn *c, const LocalRequest *req, int fd)
{
    struct daemon *d = ctx;
    LocalReply reply = LocalReply_init_zero;
    (void)fd;
    if (d->refuse || req->op != LOCAL_REVOKE || strcmp(req->arg, d->expect) != 0) {
        local_conn_finish(c, POSTERN_ERR_LIMIT,
                          &(struct fault){.what = "not now", .advice = "later"});
        return;
    }
    (void)snprintf(reply.json, sizeof(reply.json),
                   "{\"event\":\"revoked\",\"sessions\":3}");
    reply.last = true;
    if (local_conn_reply(c, &reply) != 0)
        (void)fprintf(stderr, "the reply did not fit\n");
    local_conn_close(c);
}

static void on_gone(void *ctx, struct local_conn *c)
{
    (void)ctx;
    (void)c;
}

static void on_stop(void *ctx)
{
    struct daemon *d = ctx;
    local_server_close(d->server);
    wake_close(&d->stop);
}

static void *daemon_main(void *arg)
{
    struct daemon *d = arg;
    loop_run(d->loop);
    return NULL;
}

static void daemon_start(struct daemon *d, const struct fixture *x)
{
    static const struct local_events events = {.on_request = on_request,
                                               .on_gone = on_gone};
    char path[STATEDIR_SOCKET_LEN];
    struct statedir dir;
    uint8_t key[KEY_LEN] = {1};
    (void)key_format(key, d->expect);
    assert_int_equal(statedir_open(&dir, x->dir, NULL), 0);
    statedir_socket(&dir, "serve", path);
    assert_int_equal(loop_open(&d->loop), 0);
    assert_int_equal(wake_open(&d->stop, d->loop, on_stop, d), 0);
    assert_int_equal(local_server_open(&d->server, d->loop, path, &events, d, NULL), 0);
    assert_int_equal(pthread_create(&d->thread, NULL, daemon_main, d), 0);
}

static void daemon_stop(struct daemon *d)
{
    wake_up(&d->stop);
    (void)pthread_join(d->thread, NULL);
    loop_close(d->loop);
}

static void test_revoke_alone(void **state)
{
    struct fixture *x = *state;
    struct json_value v;
    publish(x);
    assert_int_equal(RUN(x, true, "revoke", "bob"), POSTERN_ERR_NOTFOUND);
    assert_int_equal(RUN(x, true, "revoke", "anna"), 0);
    assert_int_equal(json_find(&v, x->text, "sessions"), POSTERN_ERR_NOTFOUND);
    assert_int_equal(RUN(x, true, "revoke", "anna"), POSTERN_ERR_NOTFOUND);
}

static void test_revoke_serving(void **state)
{
    struct fixture *x = *state;
    struct daemon d = {0};
    publish(x);
    daemon_start(&d, x);
    int err = RUN(x, false, "revoke", "anna");
    daemon_stop(&d);
    assert_int_equal(err, 0);
    assert_non_null(strstr(x->text, "3 live session(s) ended"));
}

/* A daemon in trouble: the device is off the list all the same, and it says so. */
static void test_revoke_refused(void **state)
{
    struct fixture *x = *state;
    struct daemon d = {.refuse = true};
    publish(x);
    daemon_start(&d, x);
    int err = RUN(x, false, "revoke", "anna");
    daemon_stop(&d);
    assert_int_equal(err, POSTERN_ERR_LIMIT);
    assert_non_null(strstr(x->f.what, "was taken off the list"));
    assert_non_null(strstr(x->f.what, "not now"));
    assert_int_equal(RUN(x, true, "ls", "--devices"), 0);
    assert_string_equal(x->text, "");
}

#define WITH_STATE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_STATE(test_invite),         WITH_STATE(test_ls),
        WITH_STATE(test_keys),           WITH_STATE(test_revoke_alone),
        WITH_STATE(test_revoke_serving), WITH_STATE(test_revoke_refused),
    };
    return sodium_init() < 0 ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
