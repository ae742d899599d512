/*
 * Prints events. The words for people stand in one table of templates: {name} is
 * replaced by that field, and a part in [brackets] is left out when one of its fields
 * is missing, null or empty; {name~} is a time in ms, in words. Knows the events'
 * shape, not when they happen.
 */
#include "io/events.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/span.h"
#include "core/utf8.h"
#include "io/log.h"
#include "io/stop.h"

enum { LATE_S = 30 };

struct event_words {
    const char *name;
    const char *words;
};

// clang-format off
static const struct event_words event_table[] = {
    {"draining", "draining: the next broker may start now; {sessions} relayed session(s) go on, for {within_s} s at most"},
    {"ready",    "ready[: broker link {link}][\n  portal {portal}][\n  browsers warn of its own certificate: compare its SHA-256, {fingerprint}, or give it one with --certificate][: publishing as {host}][: {services} service(s)]"
                 "[: listening on {local}][: sharing {shares}, until this ends (Ctrl-C); there: postern open HOST:share][: receiving into {into}, until this ends (Ctrl-C)][: SOCKS5 on {listen}][, for {peer}:{service}][, through the agent at {via}]"
                 "[: names under .postern are answered by DNS at {dns}]"},
    {"names",    "[HOST.postern works in every program, by {by}][HOST.postern works only by that DNS server: {reason}][; {do}]"},
    {"open",     "{url} until this ends (Ctrl-C)[, in the browser by {browser}]"},
    {"ssh-config", "written to {file}: 'ssh USER@HOST.postern' works now"},
    {"service",  "{host}: {name}, port {port}/{protocol}[, at {local}]"},
    {"host",     "{name}[  {key}][  {state}][: {reason}][; {do}][  path {kind}][  {rtt_ms} ms][, not direct: {why}][  services: {services}][  ({titles})]"},
    {"client",   "{name}[  {key}][  {state}][  path {kind}][  {rtt_ms} ms][  may use: {services}]"},
    {"path",     "{peer}: {kind}[ from {local}][ to {remote}][, {rtt_ms} ms round trip]"
                 "[, chosen {elapsed_ms~}][: {reason}]"},
    {"rejected", "{peer}: not {kind}: {reason}"},
    {"relayed",  "{peer}: through the broker, not directly: {reason}"},
    {"tried",    "{peer}: {kind} {result}[ after {elapsed_ms} ms][, {rtt_ms} ms round trip][, to {remote}][: {reason}]"},
    {"pong",     "{peer}: pong {seq}, {rtt_ms} ms[ by {kind}]"},
    {"joined",   "joined[ {host}][ by {device}][: {services}][; {spent}][; try: {try}]"},
    {"unit",     "{role}: {state}[, process {pid}][, unit {file}]"},
    {"checked",  "{file}: good, {services} service(s)"},
    {"unjoined", "left {host}; where it still lists this device, 'postern revoke' there takes it off"},
    {"refused",  "[{peer}: ][refused {who}: ]{service}[ {code}]: {reason}"},
    {"session",  "{peer}: {kind}[ to {remote}][, {rtt_ms} ms], {streams} stream(s)[, last heard {silent_s} s ago][, not direct: {why}]"},
    {"daemon",   "{role}: running {running}"},
    {"netcheck", "{profile}[\n  would help: {needs}]\n  {words}[\n  seen as {seen_as}][\n  from: {uplinks}][\n  UDP: {udp}, mapping {mapping}, filtering "
                 "{filtering}][\n  port preserved: {port_preserved}, IPv6: {ipv6}][\n  largest packet: {mtu} bytes]"
                 "[\n  broker {broker}][ at {broker_at}][: {broker_rtt_ms} ms by TCP][, {udp_rtt_ms} ms by UDP]"
                 "[\n  port mapping by the router: {port_mapping}][: {mapping_note}][\n  double NAT: {double_nat}][, NAT64: {nat64}][, hairpin: {hairpin}]"
                 "[\n  idle: {idle}][\n  not tested: {not_tested}][\n  {more}]"},
    {"left",     "lost {peer}[: {reason}][; {do}]"},
    {"back",     "{peer} answers again, after {silent_s} s"},
    {"invite",   "{link}"},
    {"code",     "On the other machine: postern join {code}@{broker}\n"
                 "Good for {lasts} and three tries[, for {services} only]; waiting for it ..."},
    {"given",    "the other side has it and joins now"},
    {"revoked",  "revoked {name} ({key})[; {sessions} live session(s) ended]"},
    {"key",      "{key}[  {state}]"},
    {"rotated",  "[{peer}: ]new device key {key}[; it replaces {old}]"},
    {"reloaded", "read again: {services} service(s)[: {published}][; no longer published: {withdrawn}]"},
    {"publishes", "publishes as {host}: {services}[, {note}]"},
    {"broker",   "broker[ {address}] {state}[: {reason}][; {do}]"},
    {"agent",    "[agent for this LAN: other hosts use --via {link}][agent {state}][ at {address}][: {reason}][; {do}]"},
    {"lan-host", "{name}: hands over {services} service(s)[, from {remote}]"},
    {"lan-away", "{name}: away; its place and name stay (serve --agent-forget)"},
    {"forgotten", "{name} may not hand its services over any more[; {connections} connection(s) ended]"},
    {"published", "published {service}, port {port}[: {program} listens on {listens}][, of {from}]"},
    {"withdrawn", "no longer published: {service}"},
    {"listening", "{local}/{protocol}[  {program}][ (pid {pid})][  published as {service}]"},
    {"account",  "{name}  may use: {services}[  {code}][  {owner}][  expired at {expired}][  until {expires}][\n{uri}]"},
    {"removed",  "removed {name}"},
    {"public",   "{service} is open to everybody by its name in TLS; where it speaks none itself, see serve --tls"},
    {"private",  "{service} is for accounts and devices only"},
    {"audit",    "{time} {what}[ {object}][ by {who}][ from {from}][: {detail}]"},
    {"sent",     "sent {file} to {peer}, {bytes} bytes[, as {as}][; {note}]"},
    {"received", "received {file} from {from}, {bytes} bytes"},
    {"already-here", "already here: {file}, which {from} sent again"},
    {"progress", "{percent} %, {words}: {file}"},
    {"check",    "{state}: {check}: {what}[; {do}]"},
    {"error",    "{what}[; {do}]"},
};
// clang-format on

void event_begin(struct event *e, const char *name)
{
    e->json = json_writer(e->text, sizeof(e->text));
    json_object_begin(&e->json, NULL);
    json_text(&e->json, "event", name);
}

void event_text(struct event *e, const char *name, const char *text)
{
    json_text(&e->json, name, text);
}

void event_int(struct event *e, const char *name, int64_t v)
{
    json_int(&e->json, name, v);
}

void event_ms(struct event *e, const char *name, uint64_t us)
{
    json_real(&e->json, name, (double)us / 1000.0, 3);
}

void event_rtt(struct event *e, const char *name, uint32_t rtt_us)
{
    if (rtt_us == 0 || rtt_us == UINT32_MAX)
        json_text(&e->json, name, NULL);
    else
        event_ms(e, name, rtt_us);
}

void event_bool(struct event *e, const char *name, bool v)
{
    json_bool(&e->json, name, v);
}

void event_addr(struct event *e, const char *name, const struct addr *a)
{
    char text[ADDR_TEXT_LEN];
    json_text(&e->json, name, a->family == ADDR_NONE ? NULL : addr_format(a, text));
}

const char *event_end(struct event *e)
{
    if (e->json.cap == 0)
        return e->text;
    json_object_end(&e->json);
    if (json_end(&e->json) < 0) {
        struct json_value v = {.type = JSON_TEXT, .at = "", .len = 0};
        char name[64];
        const char *at = NULL;
        struct json_value key;
        bool named = json_next(e->text, &at, &key, &v) == 1;
        json_value_words(&v, name, sizeof(name));
        if (!named)
            name[0] = '\0';
        event_begin(e, name);
        json_bool(&e->json, "truncated", true);
        json_object_end(&e->json);
    }
    e->json.cap = 0; /* marks the end: nothing more fits */
    return e->text;
}

static void append(char *buf, size_t cap, size_t *used, const char *text, size_t len)
{
    size_t room = cap - 1 - *used;
    if (len > room)
        len = room;
    memcpy(buf + *used, text, len);
    *used += len;
    buf[*used] = '\0';
}

/* A field as it is shown: other devices name things too. */
static void shown_words(const struct json_value *v, char *buf, size_t cap)
{
    json_value_words(v, buf, cap);
    utf8_make_plain(buf);
}

/* "{NAME~}": for how many ms; what came late was no choice that took so long. */
static void when_words(const struct json_value *v, char *buf, size_t cap)
{
    char ms[32], span[SPAN_LEN];
    json_value_words(v, ms, sizeof(ms));
    unsigned long long s = strtoull(ms, NULL, 10) / 1000;
    if (s < LATE_S)
        (void)snprintf(buf, cap, "after %s ms", ms);
    else
        (void)snprintf(buf, cap, "%s after the session began", span_exact(s, span));
}

/* Writes the template part [at, end); false when one of its fields is missing. */
static bool fill_part(const char *json, const char *at, const char *end, char *buf,
                      size_t cap, size_t *used)
{
    bool whole = true;
    while (at < end) {
        const char *close = *at == '{' ? memchr(at, '}', (size_t)(end - at)) : NULL;
        if (close == NULL) {
            append(buf, cap, used, at++, 1);
            continue;
        }
        char name[32], value[EVENT_TEXT_LEN] = "";
        struct json_value v;
        bool when = close[-1] == '~';
        (void)snprintf(name, sizeof(name), "%.*s", (int)(close - at - 1 - when),
                       at + 1);
        if (json_find(&v, json, name) != 0 || v.type == JSON_NULL)
            whole = false;
        else if (when)
            when_words(&v, value, sizeof(value));
        else
            shown_words(&v, value, sizeof(value));
        if (value[0] == '\0')
            whole = false;
        append(buf, cap, used, value, strlen(value));
        at = close + 1;
    }
    return whole;
}

static void fill_template(const char *json, const char *words, char *buf, size_t cap)
{
    size_t used = 0;
    buf[0] = '\0';
    while (*words != '\0') {
        bool optional = *words == '[';
        if (optional)
            words++;
        const char *end = words + strcspn(words, optional ? "]" : "[");
        size_t before = used;
        if (!fill_part(json, words, end, buf, cap, &used) && optional) {
            used = before;
            buf[used] = '\0';
        }
        words = optional && *end == ']' ? end + 1 : end;
    }
}

/* An event without a template: every field with its name. */
static void list_fields(const char *json, const char *event, char *buf, size_t cap)
{
    const char *at = NULL;
    struct json_value name, v;
    size_t used = 0;
    append(buf, cap, &used, event, strlen(event));
    while (json_next(json, &at, &name, &v) == 1) {
        char value[EVENT_TEXT_LEN];
        if (name.len == 5 && memcmp(name.at, "event", 5) == 0)
            continue;
        shown_words(&v, value, sizeof(value));
        append(buf, cap, &used, "  ", 2);
        append(buf, cap, &used, name.at, name.len);
        append(buf, cap, &used, " ", 1);
        append(buf, cap, &used, value, strlen(value));
    }
}

void events_words(const char *json, char *buf, size_t cap)
{
    char event[64] = "?";
    struct json_value v;
    if (cap == 0)
        return;
    buf[0] = '\0';
    if (json_find(&v, json, "event") == 0)
        json_value_words(&v, event, sizeof(event));
    for (size_t i = 0; i < sizeof(event_table) / sizeof(event_table[0]); i++)
        if (strcmp(event_table[i].name, event) == 0) {
            fill_template(json, event_table[i].words, buf, cap);
            return;
        }
    list_fields(json, event, buf, cap);
}

/* A closed terminal is a reader that has gone, as that of a pipe. */
static bool is_terminal_gone(FILE *f, int err)
{
    struct stat st;
    return err == EIO && fstat(fileno(f), &st) == 0 && S_ISCHR(st.st_mode);
}

static void print_line(struct events *out, const char *line)
{
    log_progress_end();
    if (fprintf(out->out, "%s\n", line) >= 0 && fflush(out->out) == 0)
        return;
    int err = is_terminal_gone(out->out, errno) ? EPIPE : errno;
    clearerr(out->out);
    if (out->lasting || out->failed != 0)
        return;
    out->failed = err;
    if (err != EPIPE)
        (void)fprintf(stderr,
                      "postern: cannot write the output: %s; free some space or "
                      "send it elsewhere\n",
                      strerror(err));
    if (!stop_now()) /* no loop runs that could end in order */
        _exit(err == EPIPE ? 0 : 1);
}

void events_print_json(struct events *out, const char *json)
{
    char words[2 * EVENT_TEXT_LEN];
    if (out == NULL || out->out == NULL)
        return;
    if (out->json) {
        print_line(out, json);
        return;
    }
    events_words(json, words, sizeof(words));
    print_line(out, words);
}

void events_print(struct events *out, struct event *e)
{
    const char *json = event_end(e);
    events_print_json(out, json);
}

void events_fault(struct events *out, const struct fault *f)
{
    log_progress_end();
    (void)fprintf(stderr, "postern: %s%s%s\n", f->what, f->advice[0] ? "; " : "",
                  f->advice);
    if (out == NULL || !out->json)
        return;
    struct event e;
    event_begin(&e, "error");
    event_text(&e, "what", f->what);
    event_text(&e, "do", f->advice);
    events_print(out, &e);
}
