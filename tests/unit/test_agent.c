/* An agent and hosts that say the wrong thing, too much of it, or at the wrong time. */
#include "agent_fixture.h"

/* ----------------------------------------------------------------------- the tests */

static void test_who_is_let_in(void **state)
{
    struct fixture *x = *state;
    struct lan_host h;
    uint8_t wrong[LINK_SECRET_LEN] = {1};
    struct peer *p = dial(x, 0);
    hello(p, "nas", wrong);
    expect_bye(p, BYE_TOKEN);
    p = dial(x, 0);
    hello(p, "nas", NULL);
    expect_bye(p, BYE_TOKEN);
    assert_int_equal(lan_host_find(x->host->roster, p->key.pub, &h),
                     POSTERN_ERR_NOTFOUND);
    p = join(x, 0, "N\xc3\xa4s der Erste!");
    expect_name(p, "nsdererste");
    p = dial(x, 0); /* known now: no token, and the name that it has */
    hello(p, "other", NULL);
    WAIT(x, p->seen[Control_welcome_tag] == 1);
    expect_name(p, "nsdererste");
    p = join(x, 1, "2024");
    expect_name(p, "host");
    p = join(x, 2, "HOST");
    expect_name(p, "host-2");
}

static bool all_are(void *ctx, const uint8_t key[static KEY_LEN])
{
    (void)key;
    return *(bool *)ctx;
}

/* Places that hosts took and never used keep no host out that comes; those in use do.
 */
static void test_no_more_than_so_many(void **state)
{
    struct fixture *x = *state;
    static const char *const web[] = {"web"};
    struct roster *r = x->host->roster;
    struct lan_host h;
    bool connected = true;
    struct lan_room room = {.is_connected = all_are, .ctx = &connected};
    struct peer *used = join(x, 1, "used");
    hand_over(used, web, 1);
    WAIT(x, used->named == 1);
    struct peer *idle = join(x, 2, "idle");
    for (unsigned i = 2; i < LAN_HOSTS_MAX; i++) {
        uint8_t key[KEY_LEN] = {99, (uint8_t)i};
        assert_int_equal(lan_host_add(r, key, "pi", 1, &room, &h), 0);
        if (i > 2)
            assert_int_equal(lan_host_published(r, key), 0);
    }
    assert_string_equal(h.name, "pi-62");
    (void)join(x, 0, "nas"); /* in the place of the first "pi", which proved nothing */
    assert_int_equal(lan_host_find(r, (uint8_t[KEY_LEN]){99, 2}, &h),
                     POSTERN_ERR_NOTFOUND);
    expect_name(idle, "idle");
    uint8_t key[KEY_LEN] = {98};
    connected = false;
    assert_int_equal(lan_host_add(r, key, "pi", 1, &room, &h), 0);
    assert_true(room.left);
    assert_string_equal(room.who.name, "idle"); /* for all that this call was told */
    assert_string_equal(h.name, "pi");
    connected = true;
    for (unsigned i = 3; i < LAN_HOSTS_MAX; i++)
        assert_int_equal(lan_host_find(r, (uint8_t[KEY_LEN]){99, (uint8_t)i}, &h), 0);
    assert_int_equal(lan_host_published(r, key), 0);
    assert_int_equal(lan_host_published(r, x->peers[0].key.pub), 0);
    assert_int_equal(lan_host_add(r, (uint8_t[KEY_LEN]){97}, "pi", 1, &room, &h),
                     POSTERN_ERR_LIMIT);
}

/* Connected, and nothing more: it is told, and its place goes to who comes. */
static void test_idle_host_makes_room(void **state)
{
    struct fixture *x = *state;
    struct lan_host h;
    bool connected = true;
    struct lan_room room = {.is_connected = all_are, .ctx = &connected};
    struct peer *idle = join(x, 1, "idle");
    for (unsigned i = 1; i < LAN_HOSTS_MAX; i++) {
        uint8_t key[KEY_LEN] = {99, (uint8_t)i};
        assert_int_equal(lan_host_add(x->host->roster, key, "pi", 1, &room, &h), 0);
        assert_int_equal(lan_host_published(x->host->roster, key), 0);
    }
    /* those are not connected, but have published: more than this one did */
    (void)join(x, 0, "nas");
    expect_bye(idle, BYE_BUSY);
    assert_int_equal(lan_host_find(x->host->roster, idle->key.pub, &h),
                     POSTERN_ERR_NOTFOUND);
}

/* Its name is its key's, and so is its place, until its owner takes both. */
static void test_a_host_that_is_away_keeps_place_and_name(void **state)
{
    struct fixture *x = *state;
    static const char *const web[] = {"web"};
    struct roster *r = x->host->roster;
    uint8_t fresh[LINK_SECRET_LEN] = {7};
    struct lan_host h;
    struct fault f;
    struct lan_room room = {.is_connected = all_are, .ctx = &(bool){true}};
    struct peer *nas = join(x, 0, "nas");
    hand_over(nas, web, 1);
    WAIT(x, nas->named == 1);
    channel_free(nas->channel);
    nas->channel = NULL;
    WAIT(x, x->host->services.count == 0);
    (void)join(x, 2, "idle"); /* and proves nothing */
    for (unsigned i = 2; i < LAN_HOSTS_MAX; i++) {
        uint8_t key[KEY_LEN] = {99, (uint8_t)i};
        assert_int_equal(lan_host_add(r, key, "nas", 1, &room, &h), 0);
        assert_int_equal(lan_host_published(r, key), 0);
    }
    struct peer *p = join(x, 1, "nas");
    hand_over(p, web, 1);
    WAIT(x, p->named == 1);
    expect_name(p, "nas-64");
    assert_int_equal(lan_host_find(r, x->peers[2].key.pub, &h), POSTERN_ERR_NOTFOUND);
    expect_name(nas, "nas");
    p = dial(x, 2);
    hello(p, "nas", x->token);
    expect_bye(p, BYE_BUSY);
    assert_non_null(strstr(p->last.body.bye.reason, "--agent-forget"));
    expect_name(nas, "nas");
    assert_int_equal(lan_host_forget(r, "nas", fresh, &h, &f), 0);
    memcpy(x->token, fresh, sizeof(fresh));
    (void)join(x, 2, "nas");
    expect_name(&x->peers[2], "nas");
}

static void test_what_comes_at_the_wrong_time(void **state)
{
    struct fixture *x = *state;
    Control ping = {.which_body = Control_ping_tag};
    struct peer *p = dial(x, 0);
    say(p, &ping); /* before its Hello */
    expect_bye(p, BYE_PROTOCOL);
    p = dial(x, 0);
    assert_int_equal(channel_send(p->channel, "\xff\xff\xff\xff", 4), 0);
    expect_bye(p, BYE_PROTOCOL);
    p = join(x, 0, "nas");
    hello(p, "nas", x->token);
    expect_bye(p, BYE_PROTOCOL);
    p = join(x, 0, "nas");
    say(p, &ping);
    WAIT(x, p->seen[Control_pong_tag] == 1);
    Control introduce = {.which_body = Control_introduce_tag};
    say(p, &introduce); /* it has no other client than its agent, and no host */
    expect_bye(p, BYE_PROTOCOL);
    p = dial(x, 0);
    Control old = {.which_body = Control_hello_tag, .body.hello.version = 99};
    say(p, &old);
    expect_bye(p, BYE_VERSION);
    assert_int_equal(x->host->services.count, 0);
}

static void test_services_that_cannot_be(void **state)
{
    struct fixture *x = *state;
    static const char *const names[] = {
        "web",     "WEB",
        "",        "a b",
        "web/nas", "-x",
        "22",      "this-name-is-so-long-that-with-an-instance-it-does-not-fit"};
    static const char *const called[] = {"web/nas", "web/nas", "",       "",
                                         "",        "",        "22/nas", ""};
    struct peer *p = join(x, 0, "nas");
    hand_over(p, names, 8);
    WAIT(x, p->named == 1);
    const Names *n = &p->names;
    assert_int_equal(n->names_count, 8);
    for (size_t i = 0; i < 8; i++)
        assert_string_equal(n->names[i], called[i]);
    assert_int_equal(x->host->services.count, 2);
    static const ServiceInfo others[] = {{"u", 53, true},       {"zero", 0, false},
                                         {"big", 70000, false}, {"udp:53", 53, true},
                                         {"udp:x", 5, true},    {"udp:7", 7, false}};
    static const char *const then[] = {"u/nas", "", "", "udp:53/nas", "", ""};
    offer(p, others, 6);
    WAIT(x, p->named == 2);
    assert_int_equal(n->names_count, 6);
    for (size_t i = 0; i < 6; i++)
        assert_string_equal(n->names[i], then[i]);
    assert_int_equal(x->host->services.count, 2); /* what was before is gone */
    assert_true(service_find(&x->host->services, "u")->udp);
}

static void test_a_flood_of_lists(void **state)
{
    struct fixture *x = *state;
    static const char *const web[] = {"web"};
    struct peer *p = join(x, 0, "nas");
    for (int i = 0; i < 3 * UPDATES_MAX; i++)
        hand_over(p, web, 1);
    expect_bye(p, BYE_BUSY);
    assert_int_equal(x->host->services.count, 0);
}

static void test_instances_of_several_hosts(void **state)
{
    struct fixture *x = *state;
    static const char *const web[] = {"web"}, *const both[] = {"Web", "ssh"};
    struct service own;
    assert_int_equal(service_parse(&own, "ssh=22", NULL), 0);
    assert_int_equal(service_list_add(&x->host->services, &own, x), 0);
    struct peer *a = join(x, 0, "nas"), *b = join(x, 1, "pi");
    hand_over(a, web, 1);
    WAIT(x, a->named == 1);
    hand_over(b, both, 2);
    WAIT(x, b->named == 1);
    assert_string_equal(b->names.names[0], "web/pi");
    assert_string_equal(b->names.names[1], "ssh-2/pi");
    const struct service *s = service_find(&x->host->services, "web");
    assert_int_equal(s->target_count, 2);
    assert_non_null(service_find(&x->host->services, "web/nas"));
    join(x, 0, "nas"); /* the same key again: the old connection is replaced */
    WAIT(x, service_find(&x->host->services, "web/nas") == NULL);
    assert_int_equal(service_find(&x->host->services, "web")->target_count, 1);
    channel_free(b->channel);
    b->channel = NULL;
    WAIT(x, x->host->services.count == 1);
    assert_string_equal(x->host->services.items[0].name, "ssh");
}

/* ----------------------------------------------------------------------- the calls */

struct dialer {
    struct race *race;
    struct pump *stream;
    int code;
    bool connected, failed;
    char reason[160];
    int app; /* the other end of a socket to which the stream is attached */
};

static void on_won(void *ctx, int fd)
{
    (void)ctx;
    fail_msg("dialled here: %d", fd);
}

static void on_connected(void *ctx, struct pump *stream)
{
    struct dialer *c = ctx;
    int pair[2];
    c->connected = true;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    pump_disown(stream);
    assert_int_equal(pump_attach(stream, pair[0]), 0);
    c->app = pair[1];
}

static void on_failed(void *ctx, enum stream_code code, const char *reason)
{
    struct dialer *c = ctx;
    c->failed = true;
    c->code = code;
    (void)snprintf(c->reason, sizeof(c->reason), "%s", reason);
}

static const struct race_events call_events = {on_won, on_connected, on_failed};

static void call_as(struct fixture *x, struct dialer *c, uint64_t host, bool udp,
                    const struct race_events *events)
{
    struct service s = {.name = "web", .port = 80, .udp = udp, .target_count = 1};
    s.targets[0] = (struct service_target){.host = "web", .port = 80, .by = host};
    assert_int_equal(race_start(&c->race, x->host->loop, x->agent, &s, "", events, c),
                     0);
}

static void call(struct fixture *x, struct dialer *c, uint64_t host)
{
    *c = (struct dialer){.app = -1};
    call_as(x, c, host, false, &call_events);
}

static void expect_failed(struct fixture *x, struct dialer *c, const char *words)
{
    WAIT(x, c->failed);
    assert_int_equal(c->code, STREAM_UNREACHABLE);
    assert_non_null(strstr(c->reason, words));
    race_free(c->race);
}

/* Joined, with one service; returns its number. */
static uint64_t with_service(struct peer *p, bool udp)
{
    ServiceInfo web = {"web", 80, udp};
    offer(p, &web, 1);
    WAIT(p->x, p->named == 1);
    return service_find(&p->x->host->services, "web")->targets[0].by;
}

static void test_answers(void **state)
{
    struct fixture *x = *state;
    struct dialer c;
    call(x, &c, 1);
    expect_failed(x, &c, "not connected");
    struct peer *p = join(x, 0, "nas");
    uint64_t number = with_service(p, false);
    call(x, &c, number + 1);
    expect_failed(x, &c, "not connected");
    call(x, &c, number);
    WAIT(x, p->stream_count == 1);
    reply(p, 0, 99, "because", false);
    expect_failed(x, &c, "because");
    call(x, &c, number);
    WAIT(x, p->stream_count == 2 && p->streams[0] == NULL); /* and is counted */
    size_t before = p->reset_count;
    race_free(c.race); /* nobody waits any more */
    WAIT(x, p->streams[1] == NULL);
    assert_int_equal(p->reset_count, before + 1);
    call(x, &c, number);
    WAIT(x, p->stream_count == 3);
    assert_int_equal(pump_send_header(p->streams[2], (uint8_t[]){0, 0, 0, 1, 255}, 5),
                     0);
    expect_failed(x, &c, "malformed");
    call(x, &c, number);
    WAIT(x, p->stream_count == 4);
    pump_abort(p->streams[3], STREAM_LIMIT); /* instead of an answer */
    expect_failed(x, &c, "broke");
    call(x, &c, number);
    end_session(p);
    channel_free(p->channel);
    p->channel = NULL;
    expect_failed(x, &c, "broke");
    call(x, &c, number);
    expect_failed(x, &c, "not connected");
}

static void ignore_end(void *ctx, struct pump *pump, uint64_t code)
{
    (void)ctx, (void)pump, (void)code;
}

static void test_no_more_streams_than_so_many(void **state)
{
    static const struct pump_events events = {on_header, NULL, ignore_end};
    static struct pump *streams[STREAMS];
    struct fixture *x = *state;
    struct peer *p = join(x, 0, "nas");
    uint64_t number = with_service(p, false);
    int n = 0, rc = 0;
    while (n < STREAMS && (rc = agent_open_stream(&streams[n], x->agent, number, "web",
                                                  &events, p)) == 0)
        n++;
    assert_int_equal(rc, POSTERN_ERR_LIMIT);
    assert_true(n >= STREAMS / 2);
    for (int i = 0; i < n; i++)
        pump_drop(streams[i]);
}

static void test_streams_go_on(void **state)
{
    struct fixture *x = *state;
    struct dialer c;
    char text[8] = "";
    struct peer *p = join(x, 0, "nas");
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    call(x, &c, with_service(p, false));
    WAIT(x, p->stream_count == 1);
    reply(p, 0, STREAM_OK, "", false);
    assert_int_equal(pump_attach(p->streams[0], pair[0]), 0);
    WAIT(x, c.connected);
    race_free(c.race);
    drop_pair(p); /* it breaks: the session goes on over the next one */
    assert_int_equal(send(pair[1], "hi", 3, 0), 3);
    WAIT(x, recv(c.app, text, sizeof(text), MSG_DONTWAIT) == 3);
    assert_string_equal(text, "hi");
    assert_true(p->seen[Control_introduce_tag] > 1);
    assert_false(p->ended);
    channel_free(p->channel); /* its control connection goes: this stream stands */
    p->channel = NULL;
    WAIT(x, x->host->services.count == 0);
    assert_int_equal(send(c.app, "ho", 3, 0), 3);
    WAIT(x, recv(pair[1], text, sizeof(text), MSG_DONTWAIT) == 3);
    assert_string_equal(text, "ho");
    assert_false(agent_forget(x->agent, p->key.pub)); /* not connected, but known */
    WAIT(x, recv(c.app, text, sizeof(text), MSG_DONTWAIT) <= 0 && p->ended);
    close(pair[1]);
    close(c.app);
}

static void on_joined_end(void *ctx, struct pump *pump, uint64_t code)
{
    struct dialer *c = ctx;
    (void)pump;
    c->stream = NULL;
    c->failed = code != 0;
}

static const struct pump_events joined_events = {on_header, NULL, on_joined_end};

static void keep_stream(void *ctx, struct pump *stream)
{
    struct dialer *c = ctx;
    c->stream = stream;
    pump_set_user(stream, &joined_events, c);
}

static void on_connected_join(void *ctx, struct pump *stream)
{
    struct dialer *c = ctx;
    c->connected = true;
    pump_join(c->stream, stream);
}

static void on_connected_join_udp(void *ctx, struct pump *stream)
{
    pump_set_datagrams(((struct dialer *)ctx)->stream);
    on_connected_join(ctx, stream);
}

/* Two hosts: a stream of the one is joined to one of the other. */
static void join_two(struct fixture *x, struct dialer *c, bool udp)
{
    static const struct race_events keeps = {on_won, keep_stream, on_failed},
                                    joins = {on_won, on_connected_join, on_failed},
                                    joins_udp = {on_won, on_connected_join_udp,
                                                 on_failed};
    struct peer *a = join(x, 0, "nas"), *b = join(x, 1, "pi");
    uint64_t of_a = with_service(a, udp);
    with_service(b, udp);
    uint64_t of_b = service_find(&x->host->services, "web")->targets[1].by;
    call_as(x, c, of_a, udp, &keeps);
    WAIT(x, a->stream_count == 1);
    reply(a, 0, STREAM_OK, "", udp);
    WAIT(x, c->stream != NULL);
    race_free(c->race);
    call_as(x, c, of_b, udp, udp ? &joins_udp : &joins);
    WAIT(x, b->stream_count == 1);
    reply(b, 0, STREAM_OK, "", udp);
    WAIT(x, c->connected);
    race_free(c->race);
}

static void test_flows_are_joined(void **state)
{
    struct fixture *x = *state;
    struct dialer c = {.app = -1};
    struct peer *a = &x->peers[0], *b = &x->peers[1];
    join_two(x, &c, true);
    assert_int_equal(pump_send_datagram(a->streams[0], (const uint8_t *)"two", 4), 0);
    WAIT(x, strcmp(b->said, "two") == 0);
    assert_int_equal(pump_send_datagram(b->streams[0], (const uint8_t *)"six", 4), 0);
    WAIT(x, strcmp(a->said, "six") == 0);
    pump_abort(b->streams[0], STREAM_TIMEOUT);
    WAIT(x, c.failed && a->streams[0] == NULL);
    assert_null(c.stream);
}

/* The host's end of a stream, as a program there has it. */
static int program_at(struct peer *p)
{
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    assert_int_equal(pump_attach(p->streams[0], pair[0]), 0);
    return pair[1];
}

/* Sends the next of a long row of numbers, and reads all of it that has come: nothing
 * turns the loop again for what is left lying. */
static bool move(int from, int to, uint32_t *sent, uint32_t *got, uint32_t all)
{
    uint32_t block[1024];
    for (uint32_t i = 0; i < 1024; i++)
        block[i] = *sent + i;
    if (*sent < all && send(from, block, sizeof(block), 0) == (ssize_t)sizeof(block))
        *sent += 1024;
    ssize_t n;
    while ((n = recv(to, block, sizeof(block), MSG_PEEK) / 4 * 4) > 0) {
        for (ssize_t i = 0; i < n / 4; i++)
            assert_int_equal(block[i], (*got)++);
        assert_int_equal(recv(to, block, (size_t)n, 0), n);
    }
    return *got == all;
}

static void test_streams_are_joined(void **state)
{
    struct fixture *x = *state;
    struct dialer c = {.app = -1};
    uint32_t sent = 0, got = 0;
    char text[4];
    join_two(x, &c, false);
    int near = program_at(&x->peers[0]), far = program_at(&x->peers[1]);
    WAIT(x, move(near, far, &sent, &got, 1u << 20)); /* more than any window */
    shutdown(near, SHUT_WR);
    WAIT(x, recv(far, text, 4, 0) == 0);
    assert_int_equal(send(far, "bye", 4, 0), 4); /* the other way is open still */
    WAIT(x, recv(near, text, 4, 0) == 4);
    assert_non_null(c.stream);
    shutdown(far, SHUT_WR);
    WAIT(x, recv(near, text, 4, 0) == 0 && c.stream == NULL);
    assert_false(c.failed);
    close(near);
    close(far);
}

/* A host that was begun anew says so, and gets a session that it knows. */
static void test_a_session_that_is_forgotten(void **state)
{
    struct fixture *x = *state;
    struct peer *p = join(x, 0, "nas");
    Control m = {.which_body = Control_signal_tag};
    Offer o = {.fresh = true};
    with_service(p, false);
    memcpy(o.conv, p->conv, CONV_LEN);
    memcpy(m.conv, p->conv, CONV_LEN);
    memcpy(m.peer, x->agent_key, KEY_LEN);
    m.body.signal.sealed.size = (pb_size_t)offer_seal(
        m.body.signal.sealed.bytes, sizeof(m.body.signal.sealed.bytes), &o, &p->key,
        x->agent_key);
    assert_true(m.body.signal.sealed.size > 0);
    end_session(p);
    say(p, &m);
    WAIT(x, x->host->services.count == 0);
    WAIT(x, p->session != NULL && session_is_open(p->session));
    assert_memory_not_equal(p->conv, o.conv, CONV_LEN);
    p->named = 0;
    with_service(p, false);
}

/* ------------------------------------------------------------------------ the door */

/* What is said to the door ends the connection. */
static void expect_closed(struct fixture *x, const void *said, size_t len)
{
    struct sockaddr_storage ss;
    socklen_t ss_len = sockaddr_from_addr(&ss, &x->at);
    uint8_t byte;
    int fd = socket(ss.ss_family, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&ss, ss_len), 0);
    assert_int_equal(send(fd, said, len, 0), (ssize_t)len);
    WAIT(x, recv(fd, &byte, 1, MSG_DONTWAIT) == 0 || errno == ECONNRESET);
    close(fd);
}

static void test_tickets(void **state)
{
    struct fixture *x = *state;
    uint8_t preface[RELAY_PREFACE_LEN];
    struct peer *p = join(x, 0, "nas");
    relay_preface_encode(preface, p->ticket.ticket.bytes); /* it was used */
    expect_closed(x, preface, sizeof(preface));
    relay_preface_encode(preface, (const uint8_t[TICKET_LEN]){1});
    expect_closed(x, preface, sizeof(preface));
    preface[4]++;
    expect_closed(x, preface, sizeof(preface));
    expect_closed(x, "nothing of ours", 15);
    assert_true(session_is_open(p->session));
}

static void test_another_protocol(void **state)
{
    struct fixture *x = *state;
    struct peer *p = &x->peers[0];
    struct channel_config cc = {.loop = x->host->loop,
                                .own = &p->key, /* and a broker's protocol */
                                .events = &channel_events,
                                .ctx = p};
    struct sockaddr_storage ss;
    socklen_t len = sockaddr_from_addr(&ss, &x->at);
    uint8_t seed[KEY_LEN] = {1};
    keypair_from_seed(&p->key, seed);
    p->x = x;
    int fd = socket(ss.ss_family, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&ss, len), 0);
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    assert_int_equal(channel_new_client(&p->channel, &cc, fd, x->agent_key), 0);
    WAIT(x, p->closed);
    assert_false(p->open);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_who_is_let_in, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_more_than_so_many, setup, teardown),
        cmocka_unit_test_setup_teardown(test_idle_host_makes_room, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_host_that_is_away_keeps_place_and_name,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_comes_at_the_wrong_time, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_services_that_cannot_be, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_flood_of_lists, setup, teardown),
        cmocka_unit_test_setup_teardown(test_instances_of_several_hosts, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_answers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_more_streams_than_so_many, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_streams_go_on, setup, teardown),
        cmocka_unit_test_setup_teardown(test_flows_are_joined, setup, teardown),
        cmocka_unit_test_setup_teardown(test_streams_are_joined, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_session_that_is_forgotten, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_tickets, setup, teardown),
        cmocka_unit_test_setup_teardown(test_another_protocol, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
