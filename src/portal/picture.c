/*
 * The picture of live paths, drawn as a network plan: the host is a bar from which a
 * line of its own leads to each device. Relayed lines are dashed and pass through a
 * second bar, the broker. Knows how things look; what style.css colours has a class.
 */
#include "portal/picture.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/utf8.h"
#include "portal/layout.h"

/* User units, which are CSS pixels while the picture has its natural width. */
enum {
    WIDTH = 360,
    BAR_HEIGHT = 40,
    ROW_HEIGHT = 48,
    ROW_FIRST = 36,  /* from a bar to the middle of the first row below it */
    TRACK_LEFT = 16, /* the leftmost line */
    TRACK_GAP = 12,  /* between lines, while there are few */
    TRACK_SPAN = 88, /* of all lines, at most */
    BEND = 12,       /* radius where a line turns to its device */
    NUMBERS = 70,    /* width of the column of numbers */
};

void picture_format_rtt(char out[static PICTURE_NUMBER_LEN], double ms)
{
    if (!(ms > 0) || ms > 1e6)
        (void)snprintf(out, PICTURE_NUMBER_LEN, "unknown");
    else if (ms < 0.05)
        (void)snprintf(out, PICTURE_NUMBER_LEN, "<0.1 ms");
    else if (ms < 9.95)
        (void)snprintf(out, PICTURE_NUMBER_LEN, "%.1f ms", ms);
    else if (ms < 999.5)
        (void)snprintf(out, PICTURE_NUMBER_LEN, "%.0f ms", ms);
    else
        (void)snprintf(out, PICTURE_NUMBER_LEN, "%.1f s", ms / 1000);
}

void picture_format_rate(char out[static PICTURE_NUMBER_LEN], double bytes_s)
{
    static const char *const units[] = {"B/s", "kB/s", "MB/s", "GB/s"};
    size_t unit = 0;
    if (!(bytes_s >= 0) || bytes_s > 1e12) {
        (void)snprintf(out, PICTURE_NUMBER_LEN, "unknown");
        return;
    }
    while (bytes_s >= 999.5 && unit < 3) {
        bytes_s /= 1000;
        unit++;
    }
    (void)snprintf(out, PICTURE_NUMBER_LEN,
                   unit > 0 && bytes_s < 9.95 ? "%.1f %s" : "%.0f %s", bytes_s,
                   units[unit]);
}

/* A generous guess of a character's advance in thousandths of an em. */
static unsigned advance(const char *s, size_t len)
{
    if (len >= 3)
        return 1050; /* most of what is written so wide, or wider than thought */
    if (len == 2)
        return 720;
    if (strchr("ijlIt.,:;'|!()[] f", *s) != NULL)
        return 420;
    if (strchr("mwMW@%", *s) != NULL)
        return 1000;
    return *s >= 'A' && *s <= 'Z' ? 780 : 660;
}

void picture_fit(char out[static PICTURE_LABEL_LEN], const char *text, unsigned budget)
{
    const unsigned ellipsis = 1000;
    size_t used = 0, cut = 0; /* `cut`: where the ellipsis would go */
    unsigned width = 0;
    for (const char *s = text == NULL ? "" : text; *s != '\0';) {
        size_t len = utf8_len(s), step = len == 0 ? 1 : len;
        width += len == 0 ? 1000 : advance(s, len);
        if (width > budget || used + step + 4 > PICTURE_LABEL_LEN) {
            memcpy(out + cut, "\xe2\x80\xa6", 4); /* U+2026 with its NUL */
            return;
        }
        memcpy(out + used, s, step);
        used += step;
        if (width + ellipsis <= budget)
            cut = used;
        s += step;
    }
    out[used] = '\0';
}

static bool is_relayed(const struct session_view *s)
{
    return s->kind == NULL || strcmp(s->kind, "relay") == 0;
}

/* What is drawn where: direct sessions first, then those through the broker. */
struct plan {
    const struct session_view *rows[PICTURE_SESSIONS];
    unsigned count, direct;
    double gap; /* between lines */
    unsigned dot_x, broker_y, height;
};

static void make_plan(struct plan *p, const struct owner_view *v)
{
    *p = (struct plan){.gap = TRACK_GAP};
    for (int relayed = 0; relayed < 2; relayed++) {
        for (size_t i = 0; i < v->session_count && i < PICTURE_SESSIONS; i++)
            if (is_relayed(&v->sessions[i]) == (relayed == 1))
                p->rows[p->count++] = &v->sessions[i];
        if (relayed == 0)
            p->direct = p->count;
    }
    if (p->count > 1 && p->gap * (p->count - 1) > TRACK_SPAN)
        p->gap = (double)TRACK_SPAN / (p->count - 1);
    p->dot_x = TRACK_LEFT + 2 * BEND +
               (unsigned)(p->gap * (p->count > 0 ? p->count - 1 : 0) + 0.5);
    p->broker_y = BAR_HEIGHT + (p->direct > 0 ? p->direct * ROW_HEIGHT + 18 : 28);
    p->height = BAR_HEIGHT + 12 + (p->count > 0 ? p->count : 1) * ROW_HEIGHT;
    if (p->count > p->direct)
        p->height = p->broker_y + BAR_HEIGHT + 12 + (p->count - p->direct) * ROW_HEIGHT;
    if (v->session_count > p->count)
        p->height += ROW_HEIGHT / 2;
}

static unsigned row_y(const struct plan *p, unsigned row)
{
    if (row < p->direct)
        return BAR_HEIGHT + ROW_FIRST + row * ROW_HEIGHT;
    return p->broker_y + BAR_HEIGHT + ROW_FIRST + (row - p->direct) * ROW_HEIGHT;
}

/* A bar with a name, cut to fit, and small words at its right. */
static void bar(struct html *h, const char *kind, unsigned y, const char *name,
                const char *words)
{
    char label[PICTURE_LABEL_LEN];
    picture_fit(label, name, 14000);
    html_add(
        h,
        "<g class=\"%s\"><title>%s</title><rect x=\"1\" y=\"%u\" width=\"%u\" "
        "height=\"%u\" rx=\"2\"/><text class=\"name\" x=\"12\" y=\"%u\">%s</text>"
        "<text class=\"small\" x=\"%u\" y=\"%u\" text-anchor=\"end\">%s</text></g>\n",
        kind, name, y, (unsigned)WIDTH - 2, (unsigned)BAR_HEIGHT,
        y + BAR_HEIGHT / 2 + 5, label, (unsigned)WIDTH - 12, y + BAR_HEIGHT / 2 + 5,
        words);
}

/* A wider line carries more; it stays apart from its neighbours. */
static double line_width(const struct plan *p, const struct session_view *s)
{
    double width = 2.5 + (s->rate_bytes_s >= 1e4) + (s->rate_bytes_s >= 1e6);
    return width < p->gap * 0.55 ? width : p->gap * 0.55;
}

static void line(struct html *h, const struct plan *p, unsigned row)
{
    const struct session_view *s = p->rows[row];
    double x = TRACK_LEFT + p->gap * (p->count - 1 - row);
    unsigned y = row_y(p, row);
    html_add(h,
             "<path class=\"%s\" stroke-width=\"%.1f\" d=\"M%.1f %uV%ua%u %u 0 0 0 %u "
             "%uH%u\"/>\n",
             is_relayed(s) ? "line relayed" : "line direct", line_width(p, s), x,
             (unsigned)BAR_HEIGHT, y - BEND, (unsigned)BEND, (unsigned)BEND,
             (unsigned)BEND, (unsigned)BEND, p->dot_x);
}

/* The stop at the end of a line: round for direct ones, a diamond for relayed ones. */
static void stop(struct html *h, const struct plan *p, unsigned row)
{
    const struct session_view *s = p->rows[row];
    unsigned x = p->dot_x, y = row_y(p, row), text_x = x + 14;
    char label[PICTURE_LABEL_LEN], rtt[PICTURE_NUMBER_LEN], rate[PICTURE_NUMBER_LEN];
    unsigned room = WIDTH - NUMBERS - text_x;
    char kind[64];
    picture_fit(label, s->device, room * 1000 / 15);
    picture_format_rtt(rtt, s->rtt_ms);
    picture_format_rate(rate, s->rate_bytes_s);
    html_add(h, "<g class=\"stop\"><title>%s</title>", s->device);
    if (is_relayed(s))
        html_add(h, "<path class=\"dot relayed\" d=\"M%u %ul7 7l-7 7l-7 -7z\"/>", x,
                 y - 7);
    else
        html_add(h, "<circle class=\"dot direct\" cx=\"%u\" cy=\"%u\" r=\"6\"/>", x, y);
    html_add(h,
             "<text class=\"name\" x=\"%u\" y=\"%u\">%s</text>"
             "<text class=\"number\" x=\"%u\" y=\"%u\" text-anchor=\"end\">%s</text>",
             text_x, y - 3, label, (unsigned)WIDTH - 2, y - 3, rtt);
    (void)snprintf(kind, sizeof(kind), "direct, %s", s->kind == NULL ? "" : s->kind);
    picture_fit(label, is_relayed(s) ? "relayed" : kind, room * 1000 / 13);
    html_add(h, "<text class=\"small\" x=\"%u\" y=\"%u\">%s</text>", text_x, y + 14,
             label);
    html_add(
        h,
        "<text class=\"small\" x=\"%u\" y=\"%u\" text-anchor=\"end\">%s</text></g>\n",
        (unsigned)WIDTH - 2, y + 14, rate);
}

static void describe(struct html *h, const struct owner_view *v)
{
    size_t relayed = 0;
    for (size_t i = 0; i < v->session_count; i++)
        relayed += is_relayed(&v->sessions[i]) ? 1 : 0;
    html_add(
        h,
        "<title id=\"picture-title\">Live paths of %s</title>"
        "<desc id=\"picture-desc\">%zu connected: %zu by a direct path, %zu relayed "
        "by the broker. The table has the details.</desc>\n",
        v->host.name, v->session_count, v->session_count - relayed, relayed);
}

static void draw(struct html *h, const struct owner_view *v)
{
    struct plan p;
    char count[32];
    make_plan(&p, v);
    html_add(h,
             "<svg class=\"picture\" xmlns=\"http://www.w3.org/2000/svg\" "
             "viewBox=\"0 0 %u %u\" width=\"%u\" height=\"%u\" role=\"img\" "
             "aria-labelledby=\"picture-title\" aria-describedby=\"picture-desc\">\n",
             (unsigned)WIDTH, p.height, (unsigned)WIDTH, p.height);
    describe(h, v);
    for (unsigned i = 0; i < p.count; i++)
        line(h, &p, i);
    if (p.count > p.direct)
        bar(h, "broker", p.broker_y, v->state.broker, "broker, relays");
    (void)snprintf(count, sizeof(count), "%zu connected", v->session_count);
    bar(h, v->host.online ? "station" : "station offline", 0, v->host.name,
        v->host.online ? count : "offline");
    for (unsigned i = 0; i < p.count; i++)
        stop(h, &p, i);
    if (v->session_count > p.count)
        html_add(h,
                 "<text class=\"small\" x=\"12\" y=\"%u\">and %zu more, in the table"
                 "</text>\n",
                 p.height - 4, v->session_count - p.count);
    if (p.count == 0)
        html_add(h, "<text class=\"small\" x=\"12\" y=\"%u\">%s</text>\n",
                 (unsigned)BAR_HEIGHT + ROW_FIRST,
                 v->host.online ? "No device is connected."
                                : "The host is not connected to the broker.");
    html_add(h, "</svg>\n");
}

static void tabulate(struct html *h, const struct owner_view *v)
{
    static const char *const heads[] = {"Device",     "Path", "From",
                                        "Round trip", "Rate", "Streams"};
    char text[PICTURE_NUMBER_LEN];
    if (v->session_count == 0)
        return;
    layout_table(h, "sessions", "Sessions", heads, sizeof(heads) / sizeof(heads[0]));
    for (size_t i = 0; i < v->session_count; i++) {
        const struct session_view *s = &v->sessions[i];
        layout_row(h, s->device);
        html_add(h, "<td role=\"cell\" data-head=\"Path\">%s%s</td>",
                 is_relayed(s) ? "relayed" : "direct, ", is_relayed(s) ? "" : s->kind);
        layout_cell(h, heads[2], s->remote);
        picture_format_rtt(text, s->rtt_ms);
        layout_cell(h, heads[3], text);
        picture_format_rate(text, s->rate_bytes_s);
        layout_cell(h, heads[4], text);
        (void)snprintf(text, sizeof(text), "%u", s->streams);
        layout_cell(h, heads[5], text);
        layout_row_end(h);
    }
    layout_table_end(h);
}

void page_picture(struct html *out, const struct owner_view *v)
{
    html_add(out, "<figure>\n");
    draw(out, v);
    if (v->session_count > 0)
        html_add(out,
                 "<figcaption class=\"hint\">A solid line is a direct path, a dashed "
                 "one goes through the broker, which cannot read it. A thicker line "
                 "carries more.</figcaption>\n");
    html_add(out, "</figure>\n");
    tabulate(out, v);
}
