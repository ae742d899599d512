/* The strict reader. It knows the portal's elements and attributes, not its pages. */
#include "markup.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "core/utf8.h"

enum { DEPTH = 64, NAME = 24 };

struct reader {
    const char *at;
    char *skeleton;
    size_t used, cap;
    char open[DEPTH][NAME];
    unsigned depth;
};

static const char *const elements[] = {
    "html",       "head", "meta",    "title",   "link",    "script", "body",   "a",
    "header",     "div",  "img",     "span",    "form",    "input",  "button", "main",
    "p",          "h1",   "h2",      "h3",      "ul",      "li",     "dl",     "dt",
    "dd",         "code", "section", "table",   "caption", "thead",  "tbody",  "tr",
    "th",         "td",   "details", "summary", "label",   "select", "option", "figure",
    "figcaption", "svg",  "desc",    "g",       "rect",    "path",   "circle", "text",
};
static const char *const empty_elements[] = {"meta", "link", "img", "input"};
static const char *const attributes[] = {
    "lang",
    "charset",
    "name",
    "content",
    "rel",
    "href",
    "type",
    "src",
    "defer",
    "class",
    "alt",
    "width",
    "height",
    "id",
    "tabindex",
    "role",
    "method",
    "action",
    "value",
    "data-copy",
    "data-head",
    "data-picture",
    "hidden",
    "aria-labelledby",
    "aria-describedby",
    "scope",
    "for",
    "autocomplete",
    "autocapitalize",
    "spellcheck",
    "maxlength",
    "required",
    "autofocus",
    "inputmode",
    "pattern",
    "selected",
    "xmlns",
    "viewBox",
    "shape-rendering",
    "fill",
    "d",
    "x",
    "y",
    "rx",
    "cx",
    "cy",
    "r",
    "text-anchor",
    "stroke-width",
};
/* Of these a view chooses the value, or a part of it. */
static const char *const chosen[] = {"content", "href",      "action",
                                     "value",   "data-copy", "data-picture",
                                     "d",       "viewBox",   "height"};
static const char *const entities[] = {"&amp;", "&lt;", "&gt;", "&quot;", "&#39;"};

#define IN(list, name) is_in(list, sizeof(list) / sizeof((list)[0]), name)

static bool is_in(const char *const *list, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(list[i], name) == 0)
            return true;
    return false;
}

static void note(struct reader *r, const char *text, size_t len)
{
    if (r->used + len + 2 > r->cap)
        return;
    memcpy(r->skeleton + r->used, text, len);
    r->used += len;
    r->skeleton[r->used++] = ' ';
    r->skeleton[r->used] = '\0';
}

/* A name of letters, digits and '-'; "" when there is none or it is too long. */
static void read_name(struct reader *r, char name[static NAME])
{
    size_t len = strspn(r->at, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-"
                               "0123456789");
    if (len >= NAME)
        len = 0;
    memcpy(name, r->at, len);
    name[len] = '\0';
    r->at += len;
}

/* Text up to `end`, which stays. */
static const char *read_text(struct reader *r, char end)
{
    while (*r->at != '\0' && *r->at != end) {
        unsigned char c = (unsigned char)*r->at;
        size_t len = utf8_len(r->at);
        if (len == 0)
            return "not UTF-8";
        if ((c < 0x20 && c != '\n') || c == 0x7f ||
            (c == 0xc2 && (unsigned char)r->at[1] < 0xa0))
            return "a control character";
        if (c == '<' || c == '>' || c == '"' || c == '\'')
            return "an unescaped character";
        if (c == '&') {
            len = 0;
            for (size_t i = 0; i < sizeof(entities) / sizeof(entities[0]); i++)
                if (strncmp(r->at, entities[i], strlen(entities[i])) == 0)
                    len = strlen(entities[i]);
            if (len == 0)
                return "an unescaped &";
        }
        r->at += len;
    }
    return NULL;
}

static const char *read_attribute(struct reader *r)
{
    char name[NAME];
    r->at++; /* the space */
    read_name(r, name);
    if (!IN(attributes, name))
        return "an attribute that the portal does not use";
    note(r, name, strlen(name));
    if (*r->at != '=')
        return NULL;
    if (r->at[1] != '"')
        return "a value without quotes";
    r->at += 2;
    const char *value = r->at;
    const char *wrong = read_text(r, '"');
    if (wrong != NULL || *r->at == '\0')
        return wrong != NULL ? wrong : "a value without an end";
    size_t len = (size_t)(r->at - value);
    if (!IN(chosen, name))
        note(r, value, len);
    if (strcmp(name, "href") == 0 || strcmp(name, "action") == 0)
        if (*value != '/' && *value != '#' && strncmp(value, "https://", 8) != 0)
            return "a link to another scheme";
    r->at++;
    return NULL;
}

static const char *read_end_tag(struct reader *r)
{
    char name[NAME];
    r->at += 2;
    read_name(r, name);
    if (*r->at++ != '>')
        return "an end tag that is none";
    if (r->depth == 0 || strcmp(r->open[--r->depth], name) != 0)
        return "an end tag without its begin";
    note(r, "/", 1);
    return NULL;
}

static const char *read_tag(struct reader *r)
{
    char name[NAME];
    if (strncmp(r->at, "<!DOCTYPE html>", 15) == 0) {
        r->at += 15;
        return NULL;
    }
    if (r->at[1] == '/')
        return read_end_tag(r);
    r->at++;
    read_name(r, name);
    if (!IN(elements, name))
        return "an element that the portal does not use";
    note(r, name, strlen(name));
    while (*r->at == ' ') {
        const char *wrong = read_attribute(r);
        if (wrong != NULL)
            return wrong;
    }
    bool closed = *r->at == '/';
    r->at += closed ? 1 : 0;
    if (*r->at++ != '>')
        return "a tag without an end";
    if (closed || IN(empty_elements, name))
        return NULL;
    if (r->depth == DEPTH)
        return "too deep";
    memcpy(r->open[r->depth++], name, NAME);
    return NULL;
}

const char *markup_check(const char *text, char *skeleton, size_t cap, size_t *at)
{
    struct reader r = {.at = text, .skeleton = skeleton, .cap = cap};
    const char *wrong = NULL;
    skeleton[0] = '\0';
    while (*r.at != '\0' && wrong == NULL)
        wrong = *r.at == '<' ? read_tag(&r) : read_text(&r, '<');
    if (wrong == NULL && r.depth > 0)
        wrong = "an element without its end";
    *at = (size_t)(r.at - text);
    return wrong;
}
