/* The views of the preview, the unit tests and the fuzzer. */
#include "samples.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define COUNT_OF(a) (sizeof(a) / sizeof((a)[0]))
#define KEY "k5kqz3yh2vdmwxp7ne4ctgu6rsjbfla8o9i1"
#define HOSTILE "\"><script>alert(1)</script>&amp;'\x01\xff\xe2\x80\xae<b>"
#define LONG "The-old-laptop-in-the-room-above-the-garage-that-nobody-uses-any-more"

static struct page_login_state state(const char *account)
{
    return (struct page_login_state){.broker = "meet.example.org",
                                     .account = account,
                                     .csrf =
                                         "UvS4wW0cXo0yXWw3gQ0m4cZr9l2d5f8h1j4k7n0q3s6"};
}

/* ---- login and messages */
static void login(struct html *out)
{
    struct login_view v = {.state = state(NULL)};
    page_login(out, &v);
}

static void join(struct html *out)
{
    struct page_login_state s = state(NULL);
    page_join(out, &s, "meet.example.org");
}

static void login_problem(struct html *out)
{
    struct login_view v = {.state = state(NULL), .name = "maria", .next = "/"};
    v.state.problem = "The name or the password is wrong. Try again.";
    page_login(out, &v);
}

static void login_code(struct html *out)
{
    struct login_view v = {.state = state(NULL),
                           .name = "maria",
                           .ask_code = true,
                           .step = "c3RlcA",
                           .next = "/"};
    page_login(out, &v);
}

static void login_code_problem(struct html *out)
{
    struct login_view v = {
        .state = state(NULL), .name = "maria", .ask_code = true, .step = "c3RlcA"};
    v.state.problem = "This code is wrong or has been used. Wait for the next one.";
    page_login(out, &v);
}

static void message(struct html *out)
{
    struct message_view v = {.state = state("maria"),
                             .title = "There is no such page",
                             .text = "The address may be mistyped, or the host that it "
                                     "belongs to is offline."};
    page_message(out, &v);
}

static void message_limit(struct html *out)
{
    struct message_view v = {.state = state(NULL),
                             .title = "Too many attempts",
                             .text = "Wait for 5 minutes, then log in again."};
    page_message(out, &v);
}

/* ---- services */
static const struct host_view owned[] = {{"home", KEY, true},
                                         {"cabin", "cabinkey", false}};

static void home_empty(struct html *out)
{
    struct home_view v = {.state = state("maria"),
                          .client_address = "198.51.100.7",
                          .login_ends_minutes = 480};
    page_home(out, &v);
}

static void home_guest(struct html *out)
{
    static const struct service_view services[] = {
        {.host = "home",
         .host_key = KEY,
         .name = "web",
         .port = 443,
         .up = true,
         .url = "https://web--home.meet.example.org/"},
        {.host = "home", .host_key = KEY, .name = "cam", .port = 8080, .up = true},
        {.host = "home",
         .host_key = KEY,
         .name = "files",
         .port = 8443,
         .up = true,
         .url = "https://files--home.meet.example.org:18443/",
         .name_note = "Others who are logged in at your address may use this name too, "
                      "and it cannot tell you apart: it works with a port of your own "
                      "only.",
         .address = "meet.example.org:18443",
         .port_note = "Port 8443 leads another account or service at your address "
                      "elsewhere. Yours is 18443.",
         .tls = true},
    };
    struct home_view v = {.state = state("guest"),
                          .services = services,
                          .service_count = COUNT_OF(services),
                          .client_address = "198.51.100.7",
                          .login_ends_minutes = 45};
    page_home(out, &v);
}

static const struct service_view typical[] = {
    {.host = "home",
     .host_key = KEY,
     .name = "web",
     .port = 443,
     .up = true,
     .url = "https://web--home.meet.example.org/"},
    {.host = "home", .host_key = KEY, .name = "cam", .port = 8080, .up = true},
    {.host = "home",
     .host_key = KEY,
     .name = "ssh",
     .port = 22,
     .up = true,
     .address = "meet.example.org:22",
     .connections = 2},
    {.host = "home",
     .host_key = KEY,
     .name = "files",
     .port = 445,
     .why_down = "Nothing listens on port 445 there."},
    {.host = "home",
     .host_key = KEY,
     .name = "dns",
     .port = 53,
     .udp = true,
     .up = true},
    {.host = "office",
     .host_key = "officekey",
     .name = "desktop",
     .port = 3389,
     .up = true,
     .address = "[2001:db8::17]:3389",
     .connections = 1},
    {.host = "office",
     .host_key = "officekey",
     .name = "wiki",
     .port = 8443,
     .up = true,
     .url = "https://wiki--office.meet.example.org/"},
};

static void home_typical(struct html *out)
{
    struct home_view v = {.state = state("maria"),
                          .services = typical,
                          .service_count = COUNT_OF(typical),
                          .owned = owned,
                          .owned_count = COUNT_OF(owned),
                          .client_address = "2001:db8:4f3:91a0:1c7e:22ff:fe01:a6b2",
                          .login_ends_minutes = 460};
    v.state.notice = "Port 22 of ssh on home is open.";
    page_home(out, &v);
}

/* ---- a host, for its owner */
static const struct session_view sessions[] = {
    {"phone", "relay", "203.0.113.44:51812", 48.3, 12400, 2},
    {"laptop", "udp-punch", "198.51.100.7:40112", 8.2, 1.23e6, 14},
    {"maria-work", "tcp-punch", "192.0.2.81:22011", 23.7, 340, 1},
    {LONG, "mapped", "[2001:db8:4f3:91a0:1c7e:22ff:fe01:a6b2]:55431", 112, 0, 0},
};
static const struct device_view devices[] = {
    {"phone", "p7ne4ctgu6rsjbfk5kqz3yh2vdmwx", "web, cam", true},
    {"laptop", "mwxp7ne4ctgu6rsjbfk5kqz3yh2vd", "", true},
    {"maria-work", "ctgu6rsjbfk5kqz3yh2vdmwxp7ne4", "ssh", true},
    {LONG, "kqz3yh2vdmwxp7ne4ctgu6rsjbfk5", "", true},
    {"old-phone", "rsjbfk5kqz3yh2vdmwxp7ne4ctgu6", "cam", false},
};
static const struct log_view entries[] = {
    {"2026-11-21 10:14", "opened", "maria", "198.51.100.7:40112", "ssh", "port 22"},
    {"2026-11-21 10:12", "login", "maria", "198.51.100.7:40112", "", "with a code"},
    {"2026-11-21 09:58", "refused", "", "203.0.113.9:61001", "",
     "the name or the password is wrong"},
    {"2026-11-20 22:40", "connected", "laptop", "198.51.100.7:40112", "", "udp-punch"},
    {"2026-11-20 22:31", "invite", "maria", "192.0.2.81", "all services",
     "valid for 1 day"},
};

static struct owner_view owner(void)
{
    return (struct owner_view){.state = state("maria"),
                               .host = {"home", KEY, true},
                               .sessions = sessions,
                               .session_count = COUNT_OF(sessions),
                               .devices = devices,
                               .device_count = COUNT_OF(devices),
                               .log = entries,
                               .log_count = COUNT_OF(entries)};
}

static void owner_empty(struct html *out)
{
    struct owner_view v = {.state = state("maria"), .host = {"home", KEY, true}};
    page_owner(out, &v);
}

static void owner_offline(struct html *out)
{
    struct owner_view v = owner();
    v.host.online = false;
    v.session_count = v.device_count = 0;
    v.state.problem =
        "The host home is offline. What it knows is shown when it is back.";
    page_owner(out, &v);
}

static void owner_typical(struct html *out)
{
    struct owner_view v = owner();
    page_owner(out, &v);
}

static void owner_one(struct html *out)
{
    struct owner_view v = owner();
    v.session_count = 1;
    page_owner(out, &v);
}

static void owner_invite(struct html *out)
{
    struct owner_view v = owner();
    v.invite_link = "postern://meet.example.org:443/i/"
                    "k5kqz3yh2vdmwxp7ne4ctgu6rsjbflaok5kqz3yh2vdmwxp7ne4ctgu6rsjbflao"
                    "k5kqz3yh2vdmwxp7ne4ctgu6rsjbflaok5kqz3yh2vdmwxp7ne4ctgu6rsjbflao";
    v.state.notice = "The invite is ready: valid for 1 day, for all services.";
    page_owner(out, &v);
}

static void owner_of(struct html *out, size_t count, bool relayed_too)
{
    struct session_view many[40];
    char names[40][24];
    struct owner_view v = owner();
    for (size_t i = 0; i < count; i++) {
        (void)snprintf(names[i], sizeof(names[i]), "device-%zu", i + 1);
        many[i] = sessions[i % COUNT_OF(sessions)];
        many[i].device = i % 5 == 4 ? LONG : names[i];
        many[i].rate_bytes_s *= (double)(i + 1);
        if (!relayed_too)
            many[i].kind = "udp-punch";
    }
    v.sessions = many;
    v.session_count = count;
    page_owner(out, &v);
}

static void owner_24(struct html *out)
{
    owner_of(out, 24, true);
}

static void owner_40(struct html *out)
{
    owner_of(out, 40, true);
}

static void owner_direct(struct html *out)
{
    owner_of(out, 3, false);
}

/* ---- the same text everywhere */
static void draw_home_with(struct html *out, struct page_login_state s,
                           const char *text, unsigned number)
{
    char url[300], address[300];
    (void)snprintf(url, sizeof(url), "https://%.200s", text);
    (void)snprintf(address, sizeof(address), "%.200s:%u", text, number % 65536);
    struct service_view services[4];
    struct host_view hosts[] = {{text, text, number % 2 == 0}, {text, "other", true}};
    for (unsigned i = 0; i < COUNT_OF(services); i++)
        services[i] = (struct service_view){.host = text,
                                            .host_key = text,
                                            .name = text,
                                            .title = text,
                                            .port = (uint16_t)(i == 2 ? 22 : number),
                                            .udp = i == 3,
                                            .up = i != 1,
                                            .why_down = text,
                                            .name_note = text,
                                            .port_note = text,
                                            .url = i == 0 ? url : NULL,
                                            .address = i == 2 ? address : NULL,
                                            .connections = number};
    struct home_view v = {.state = s,
                          .services = services,
                          .service_count = COUNT_OF(services),
                          .owned = hosts,
                          .owned_count = COUNT_OF(hosts),
                          .client_address = text,
                          .login_ends_minutes = number % 1000};
    page_home(out, &v);
}

static void draw_owner_with(struct html *out, struct page_login_state s,
                            const char *text, unsigned number)
{
    struct session_view on[3] = {{text, text, text, number, number * 1000.0, number},
                                 {text, "relay", text, -1.0, 1e300, 0},
                                 {text, NULL, text, (double)NAN, (double)INFINITY, 0}};
    struct device_view known[2] = {{text, text, text, true}, {text, text, "", false}};
    struct log_view log = {text, text, text, text, text, text};
    struct owner_view v = {.state = s,
                           .host = {text, text, number % 2 == 0},
                           .sessions = on,
                           .session_count = COUNT_OF(on),
                           .devices = known,
                           .device_count = COUNT_OF(known),
                           .log = &log,
                           .log_count = 1,
                           .invite_link = text};
    page_owner(out, &v);
}

void sample_draw_with(struct html *out, unsigned which, const char *text,
                      unsigned number)
{
    struct page_login_state s = {text, text, text, text, text};
    struct login_view l = {s, text, which == 1, text, text};
    struct message_view m = {s, text, text};
    struct session_view on = {text, text, text, 1, 1, 1};
    struct owner_view picture = {
        .state = s, .host = {text, text, true}, .sessions = &on, .session_count = 1};
    switch (which) {
    case 0:
    case 1:
        page_login(out, &l);
        break;
    case 2:
        page_message(out, &m);
        break;
    case 3:
        draw_home_with(out, s, text, number);
        break;
    case 4:
        draw_owner_with(out, s, text, number);
        break;
    default:
        page_picture(out, &picture);
    }
}

static void home_hostile(struct html *out)
{
    sample_draw_with(out, 3, HOSTILE, 22);
}

static void owner_hostile(struct html *out)
{
    sample_draw_with(out, 4, HOSTILE, 22);
}

static void home_long(struct html *out)
{
    sample_draw_with(out, 3, LONG, 65534);
}

static void owner_long(struct html *out)
{
    sample_draw_with(out, 4, LONG LONG, 65534);
}

static void picture(struct html *out)
{
    struct owner_view v = owner();
    page_picture(out, &v);
}

const struct sample samples[] = {
    {"login", login},
    {"join", join},
    {"login-problem", login_problem},
    {"login-code", login_code},
    {"login-code-problem", login_code_problem},
    {"message", message},
    {"message-limit", message_limit},
    {"home-empty", home_empty},
    {"home-guest", home_guest},
    {"home-typical", home_typical},
    {"home-hostile", home_hostile},
    {"home-long", home_long},
    {"owner-empty", owner_empty},
    {"owner-offline", owner_offline},
    {"owner-one", owner_one},
    {"owner-typical", owner_typical},
    {"owner-direct", owner_direct},
    {"owner-invite", owner_invite},
    {"owner-24", owner_24},
    {"owner-40", owner_40},
    {"owner-hostile", owner_hostile},
    {"owner-long", owner_long},
    {"fragment-picture", picture},
    {NULL, NULL},
};
