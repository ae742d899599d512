/* Frames, names and the hash of a transfer; what is done with them is others'. */
#include "core/transfer.h"

#include <stdio.h>
#include <string.h>

#include "core/utf8.h"
#include "core/wire.h"

enum { NAME_MAX_BYTES = 240 };

void transfer_head(uint8_t head[static TRANSFER_HEAD], enum transfer_type type,
                   size_t len)
{
    struct wire_writer w = wire_writer(head, TRANSFER_HEAD);
    wire_put_u8(&w, (uint8_t)type);
    wire_put_u32(&w, (uint32_t)len);
}

int transfer_parse_head(const uint8_t head[static TRANSFER_HEAD],
                        enum transfer_type *type, size_t *len)
{
    struct wire_reader r = wire_reader(head, TRANSFER_HEAD);
    *type = (enum transfer_type)wire_get_u8(&r);
    *len = wire_get_u32(&r);
    bool good = *type >= TRANSFER_HELLO && *type < TRANSFER_TYPE_END &&
                *len <= TRANSFER_FRAME_MAX;
    return good ? wire_end(&r) : POSTERN_ERR_PROTO;
}

size_t transfer_put_file(uint8_t *buf, size_t cap, const struct transfer_file *f)
{
    struct wire_writer w = wire_writer(buf, cap);
    wire_put_u8(&w, f->directory);
    wire_put_u16(&w, f->mode);
    wire_put_u64(&w, f->size);
    wire_put_u64(&w, (uint64_t)f->mtime_s);
    wire_put_bytes(&w, f->path, strlen(f->path));
    return w.used;
}

int transfer_get_file(struct transfer_file *f, const uint8_t *buf, size_t len)
{
    struct wire_reader r = wire_reader(buf, len);
    f->directory = wire_get_u8(&r) != 0;
    f->mode = wire_get_u16(&r) & 0777;
    f->size = wire_get_u64(&r);
    f->mtime_s = (int64_t)wire_get_u64(&r);
    size_t n = r.left;
    const uint8_t *path = wire_get_bytes(&r, n);
    if (path == NULL || n == 0 || n >= TRANSFER_PATH_LEN ||
        f->size > TRANSFER_SIZE_MAX || memchr(path, '\0', n) != NULL)
        return POSTERN_ERR_PROTO;
    memcpy(f->path, path, n);
    f->path[n] = '\0';
    return 0;
}

/* -------------------------------------------------------------------------- names */

/* Cut at a character's boundary. */
static size_t cut(const char *name, size_t len, size_t max)
{
    while (len > max ||
           (len > 0 && len == max && ((unsigned char)name[len] & 0xc0) == 0x80))
        len--;
    return len;
}

/* Control characters and broken bytes; a name that means a directory above. */
static void clean_name(char *name, size_t len, bool first)
{
    for (size_t i = 0; i < len;) {
        size_t n = utf8_len(name + i);
        bool control = n == 0 || utf8_is_obeyed(name + i, n);
        for (size_t k = 0; control && k < (n == 0 ? 1 : n); k++)
            name[i + k] = '_';
        i += n == 0 ? 1 : n;
    }
    if (name[0] == '.' && (first || len == 1 || (len == 2 && name[1] == '.')))
        name[0] = '_';
}

int transfer_clean_path(char path[static TRANSFER_PATH_LEN])
{
    char out[TRANSFER_PATH_LEN] = "";
    size_t used = 0;
    for (char *at = path; *at != '\0';) {
        size_t len = strcspn(at, "/");
        char *next = at + len + (at[len] == '/');
        size_t kept = cut(at, len, NAME_MAX_BYTES);
        at[len] = '\0';
        if (kept > 0) {
            if (used > 0)
                out[used++] = '/';
            memcpy(out + used, at, kept);
            out[used + kept] = '\0';
            clean_name(out + used, kept, used == 0);
            used += kept;
        }
        at = next;
    }
    if (used == 0)
        return POSTERN_ERR_INVALID;
    memcpy(path, out, used + 1);
    return 0;
}

void transfer_number_name(char *out, size_t cap, const char *name, unsigned number)
{
    char tail[16];
    const char *dot = strrchr(name, '.');
    size_t stem = dot != NULL && dot > name ? (size_t)(dot - name) : strlen(name);
    const char *end = name + stem;
    (void)snprintf(tail, sizeof(tail), " (%u)", number);
    size_t rest = strlen(tail) + strlen(end);
    if (rest < NAME_MAX_BYTES)
        stem = cut(name, stem, NAME_MAX_BYTES - rest);
    (void)snprintf(out, cap, "%.*s%s%s", (int)stem, name, tail, end);
}

/* --------------------------------------------------------------------------- blocks */

uint64_t transfer_blocks(uint64_t size)
{
    return size / TRANSFER_BLOCK + (size % TRANSFER_BLOCK != 0);
}

bool transfer_is_zero(const uint8_t *block, size_t len)
{
    return len > 0 && block[0] == 0 && memcmp(block, block + 1, len - 1) == 0;
}

void transfer_hash_begin(struct transfer_hash *h)
{
    (void)crypto_generichash_init(&h->state, NULL, 0, TRANSFER_HASH_LEN);
}

void transfer_hash_zeros(struct transfer_hash *h, uint64_t blocks)
{
    static const uint8_t many[4096] = {0};
    while (blocks > 0) {
        size_t n = blocks < sizeof(many) ? (size_t)blocks : sizeof(many);
        (void)crypto_generichash_update(&h->state, many, n);
        blocks -= n;
    }
}

void transfer_hash_block(struct transfer_hash *h, const uint8_t *block, size_t len)
{
    static const uint8_t data = 1;
    if (transfer_is_zero(block, len)) {
        transfer_hash_zeros(h, 1);
        return;
    }
    (void)crypto_generichash_update(&h->state, &data, 1);
    (void)crypto_generichash_update(&h->state, block, len);
}

void transfer_hash_so_far(const struct transfer_hash *h, uint64_t size,
                          uint8_t out[static TRANSFER_HASH_LEN])
{
    uint8_t end[8];
    struct transfer_hash copy = *h;
    struct wire_writer w = wire_writer(end, sizeof(end));
    wire_put_u64(&w, size);
    (void)crypto_generichash_update(&copy.state, end, sizeof(end));
    (void)crypto_generichash_final(&copy.state, out, TRANSFER_HASH_LEN);
}
